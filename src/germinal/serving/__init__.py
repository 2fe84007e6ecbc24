"""Serving: OpenAI's chat completions over a model, or over a project's winner."""

from germinal.serving.app import create_app
from germinal.serving.model_service import ModelService
from germinal.serving.predictor_service import PredictorService
from germinal.serving.server import serve

__all__ = ["ModelService", "PredictorService", "create_app", "serve"]
