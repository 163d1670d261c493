"""A generator as one file that programs of the experiments read: ONNX, `torch.export` or TorchScript."""
