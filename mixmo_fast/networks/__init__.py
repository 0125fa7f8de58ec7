"""WideResNet and PreActResNet with any number of encoders and heads."""
