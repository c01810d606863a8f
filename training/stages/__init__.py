"""Training stages: pretrain, finetune, polish, hints."""
