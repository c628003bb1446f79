"""Picture settings: CLIP's in every spelling, and nothing that is not CLIP's."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import CONFIG

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.config import CLIP_MEAN, ImageConfig
from mlx_llava.convert.sources.image_processor import with_images
from mlx_llava.errors import ConfigError

OLD = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 8, "crop_size": 8, "resample": 3}
NEW = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 8},
    "crop_size": {"height": 8, "width": 8},
    "rescale_factor": 0.00392156862745098,
    **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), True),
}
PADS = {**NEW, "image_processor_type": "LlavaImageProcessor", "do_pad": True}


def images(folder: Path, name: str, values: object) -> ImageConfig:
    (folder / name).write_text(json.dumps(values))
    return with_images(from_hf(CONFIG), folder).image


def test_without_files_of_its_own_a_checkpoint_has_clips_pictures_at_the_towers_size(tmp_path: Path) -> None:
    assert with_images(from_hf(CONFIG), tmp_path).image == ImageConfig(side=8)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("preprocessor_config.json", OLD),
        ("preprocessor_config.json", NEW),
        ("preprocessor_config.json", {**PADS, "do_pad": False}),
        ("preprocessor_config.json", {**NEW, "_valid_processor_keys": ["images"], "do_pad": None}),
        ("processor_config.json", {"processor_class": "LlavaProcessor", "image_processor": NEW}),
        ("processor_config.json", {"processor_class": "LlavaProcessor"}),
    ],
)
def test_all_spellings_of_the_same_settings_are_the_same(name: str, values: object, tmp_path: Path) -> None:
    assert images(tmp_path, name, values) == ImageConfig(side=8)


def test_padding_and_colours_are_taken_over(tmp_path: Path) -> None:
    values = {**PADS, "image_mean": [0, 0.25, 0.5], "image_std": [1, 2, 3]}
    image = images(tmp_path, "preprocessor_config.json", values)
    assert image == ImageConfig(side=8, fit="pad", mean=(0, 0.25, 0.5), std=(1, 2, 3))
    assert image.mean != CLIP_MEAN


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_processor_type": "SiglipImageProcessor"}, 'image_processor_type is "SiglipImageProcessor"'),
        ({"do_center_crop": False}, "do_center_crop is false"),
        ({"do_pad": True}, "do_pad is true"),
        ({"resample": 2}, "resample is 2"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ({"rescale_factor": float("nan")}, "rescale_factor is NaN"),
        ({"size": {"height": 8, "width": 8}}, "size is"),
        ({"size": {"shortest_edge": 8, "longest_edge": 9}}, "size is"),
        ({"size": {"shortest_edge": []}}, "size is"),
        ({"size": [8]}, "size is"),
        ({"size": True}, "size is true"),
        ({"crop_size": {"height": 8, "width": 9}}, "crop_size is"),
        ({"crop_size": {}}, "crop_size is {}"),
        ({"size": 16}, "images are resized to 16 and cropped to 8; the tower takes 8 pixels"),
        ({"image_mean": [0.5, 0.5]}, "image_mean is"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std is"),
        ({"image_std": "abc"}, "image_std is"),
        ({"image_grid_pinpoints": [[8, 16]]}, '"image_grid_pinpoints": not implemented'),
        ({"default_to_square": True}, "default_to_square is true"),
    ],
)
def test_settings_that_are_not_clips_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        images(tmp_path, "preprocessor_config.json", {**NEW, **change})
    assert said in caught.value.problem
