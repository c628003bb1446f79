from mlx_llava.images.image import Image
from mlx_llava.inference.chat import Chat
from mlx_llava.resolve import open_model

__all__ = ["Chat", "Image", "load"]
__version__: str
load = open_model
