"""The whole service on a machine with a GPU:  python -m tests.bench.gpu_service"""
