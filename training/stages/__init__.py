"""Training stages: pretrain, finetune, polish."""
