"""Measures of the mask quality of a model on images with ground truth; commands to run, not tests.

They use the worker's engine in process and import neither the gateway nor worker.training.
"""
