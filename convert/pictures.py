"""How a checkpoint prepares its pictures: preprocessor_config.json, or its place in processor_config.json."""

from dataclasses import replace
from pathlib import Path

from mlx_llava.config import LlavaConfig, PictureConfig
from mlx_llava.errors import ConfigError
from mlx_llava.keys import Section, read_json

PROCESSORS = (
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "LlavaImageProcessor",
    "LlavaImageProcessorFast",
    "LlavaImageProcessorPil",
    "CLIPFeatureExtractor",
)
BICUBIC = 3  # PIL.Image.Resampling
HARMLESS = ("processor_class", "feature_extractor_type", "data_format", "device", "return_tensors", "input_data_format")


def with_pictures(config: LlavaConfig, folder: Path) -> LlavaConfig:
    """The config with the picture settings of the checkpoint's own files; without such files it stays as it is."""
    if (path := folder / "preprocessor_config.json").exists():
        return replace(config, picture=read(Section(read_json(path), path.name), config.picture))
    if (path := folder / "processor_config.json").exists():
        outer = Section(read_json(path), path.name)
        if "image_processor" in outer:
            return replace(config, picture=read(outer.section("image_processor"), config.picture))
    return config


def read(keys: Section, known: PictureConfig) -> PictureConfig:
    """CLIP's picture settings; ConfigError for any that are not CLIP's."""
    keys.must("image_processor_type", *PROCESSORS)
    for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"):
        keys.must(key, True)
    keys.must("resample", BICUBIC)
    if not 1 / 256 < keys.real("rescale_factor", 1 / 255, 0, 1) < 1 / 254:
        raise keys.error("rescale_factor", keys.get("rescale_factor"), "1/255")
    pad = keys.flag("do_pad", False)
    size, crop = _edges(keys, "size"), _edges(keys, "crop_size")
    if {size, crop} - {known.side}:
        raise ConfigError(
            f"{keys.where}: pictures are resized to {size} and cropped to {crop}, but the tower sees {known.side} pixels",
            "The file does not belong to this checkpoint's config.json.",
        )
    picture = PictureConfig(
        side=known.side,
        fit="pad" if pad else known.fit,
        mean=keys.three("image_mean") if "image_mean" in keys else known.mean,
        std=keys.three("image_std") if "image_std" in keys else known.std,
    )
    keys.finish(HARMLESS)
    return picture


def _edges(keys: Section, key: str) -> int:
    """One edge length from `336`, `{"shortest_edge": 336}` or `{"height": 336, "width": 336}`."""
    value = keys.get(key, {"shortest_edge": 224})  # CLIPImageProcessor's default
    edges = set(value.values()) if isinstance(value, dict) else {value}
    if len(edges) != 1 or type(edge := edges.pop()) is not int:
        raise keys.error(key, value, "one edge length")
    return edge
