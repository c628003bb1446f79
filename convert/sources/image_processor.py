"""How a checkpoint prepares images: preprocessor_config.json, or the same section of processor_config.json."""

from dataclasses import replace
from pathlib import Path

from mlx_llava.checkpoint.strict_json import Section, read_json
from mlx_llava.config import ImageConfig, LlavaConfig
from mlx_llava.errors import ConfigError

CLIP = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor")
LLAVA = ("LlavaImageProcessor", "LlavaImageProcessorFast", "LlavaImageProcessorPil")
BICUBIC = 3  # PIL.Image.Resampling
HARMLESS = frozenset(
    "processor_class data_format input_data_format device return_tensors _valid_processor_keys".split()
)


def with_images(config: LlavaConfig, folder: Path) -> LlavaConfig:
    """The config with the image settings of a folder's files; unchanged if it has no such file."""
    if (path := folder / "preprocessor_config.json").exists():
        return replace(config, image=read(Section(read_json(path), path.name), config.image))
    if (path := folder / "processor_config.json").exists():
        outer = Section(read_json(path), path.name)
        if "image_processor" in outer:
            return replace(config, image=read(outer.section("image_processor"), config.image))
    return config


def read(keys: Section, default: ImageConfig) -> ImageConfig:
    """Image settings; ConfigError for any that CLIP does not have."""
    keys.only("image_processor_type", *CLIP, *LLAVA)
    keys.only("feature_extractor_type", *CLIP)
    for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"):
        keys.only(key, True)
    keys.only("resample", BICUBIC)
    keys.only("default_to_square", False)
    if not 1 / 256 < keys.number("rescale_factor", 1 / 255, 0, 1) < 1 / 254:
        raise keys.error("rescale_factor", keys.get("rescale_factor"), "1/255")
    size = _edge(keys, "size", ("shortest_edge",))
    crop = _edge(keys, "crop_size", ("height", "width"))
    if {size, crop} != {default.side}:
        raise ConfigError(
            f"{keys.where}: images are resized to {size} and cropped to {crop}; the tower takes {default.side} pixels",
            "The file does not belong to this checkpoint's config.json.",
        )
    pads = keys.get("image_processor_type") in LLAVA and keys.flag("do_pad", False)
    keys.only("do_pad", pads)  # CLIP's own never pads
    image = ImageConfig(
        side=default.side,
        fit="pad" if pads else default.fit,
        mean=keys.triple("image_mean") if "image_mean" in keys else default.mean,
        std=keys.triple("image_std") if "image_std" in keys else default.std,
    )
    keys.finish(HARMLESS)
    return image


def _edge(keys: Section, key: str, names: tuple[str, ...]) -> int:
    """The edge length in `336`, in `{"shortest_edge": 336}`, or in `{"height": 336, "width": 336}`."""
    value = keys.get(key, 224)  # CLIPImageProcessor's default
    table = dict.fromkeys(names, value) if type(value) is int else value
    edge = table.get(names[0]) if isinstance(table, dict) else None
    if type(edge) is not int or table != dict.fromkeys(names, edge):
        raise keys.error(key, value, f"one number for {' and '.join(names)}")
    return edge
