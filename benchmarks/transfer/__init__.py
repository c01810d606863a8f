"""Whether pretraining pays: fine-tuning runs from different starts."""
