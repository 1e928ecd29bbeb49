"""Reads files of formats with the tools that they are for; runs in the environment of readers.txt.

python readers.py FOLDER: for each folder in it with cvat.xml, images/ and labelstudio.json, writes cvat.npy and
labelstudio.npy: (segments, H, W) bool, in the order of the file; and cvat.txt: the label of each.
"""

import json
import sys
from pathlib import Path

import numpy as np
from datumaro.plugins.data_formats.cvat.base import AnnotationType, CvatBase
from label_studio_converter.brush import decode_rle


def read_cvat(folder: Path) -> None:
    dataset = CvatBase(str(folder / "cvat.xml"))
    [item] = dataset
    categories = dataset.categories()[AnnotationType.label]
    np.save(folder / "cvat.npy", np.array([np.asarray(one.image, bool) for one in item.annotations]))
    labels = [categories[one.label].name for one in item.annotations]
    (folder / "cvat.txt").write_text(json.dumps(labels))


def read_label_studio(folder: Path) -> None:
    [task] = json.loads((folder / "labelstudio.json").read_text())
    results = [one for one in task["predictions"][0]["result"] if one["type"] == "brushlabels"]
    masks = [
        decode_rle(one["value"]["rle"]).reshape(one["original_height"], one["original_width"], 4)[:, :, 3] > 0
        for one in results
    ]
    np.save(folder / "labelstudio.npy", np.array(masks))


for path in sorted(Path(sys.argv[1]).iterdir()):
    read_cvat(path)
    read_label_studio(path)
