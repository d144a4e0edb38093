"""Goal 1: from JPEG files to features, against ``model.predict`` for each image. Decoding included on both sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import machine, material
from benchmarks.peers import keras_encoder
from benchmarks.results import Result
from benchmarks.rounds import MANY, Ratio, once, race
from captioner import images
from captioner.featurestore.extract import Extractor
from captioner.model.captioner import Captioner
from captioner.records import ImageRecord

OURS, PEERS = 256, 48  # images in a round: about two seconds each
MACS = 385e6  # multiplications of EfficientNet-Lite0 for one image (tensorflow/tpu, models/official/efficientnet/lite)


def run(ours: int = OURS, peers: int = PEERS) -> list[Result]:
    cnn = material.encoder()
    network = keras_encoder.published_network()
    records, data = material.records_and_bytes(ours)

    def read(record: ImageRecord) -> bytes:
        return images.normalise(data[record.id], record.id, whole=True)

    def extracted(extractor: Extractor, count: int) -> np.ndarray:
        return np.concatenate([rows for _, rows in extractor.extract(records[:count], read)])

    def one_by_one(count: int) -> np.ndarray:
        return keras_encoder.extract_one_by_one(network, [data[r.id] for r in records[:count]], cnn.image_size)

    engines = {name: Extractor(cnn, 32, engine=name) for name in ("tensorflow", "openvino")}
    cold = {name: once(lambda e=e: extracted(e, 32)) for name, e in engines.items()}
    cold["peer"] = once(lambda: one_by_one(32))
    wanted = one_by_one(peers)
    ours_found = {name: extracted(extractor, peers) for name, extractor in engines.items()}
    equal = {name: agreement(wanted, rows) for name, rows in ours_found.items()}
    captions_agree(ours_found["tensorflow"], ours_found["openvino"])

    def work(extractor: Extractor) -> Callable[[], float]:
        return lambda: float(len(extracted(extractor, ours)))

    found = race(
        {
            "peer": lambda: float(len(one_by_one(peers))),
            **{name: work(extractor) for name, extractor in engines.items()},
        },
        MANY,
    )
    limits = machine.limits()
    size = np.mean([len(picture) for picture in data.values()])
    floor = 2 * MACS / (limits["gemm_gflops"] * 1e9)
    results = []
    for name, goal in (("tensorflow", 8.0), ("openvino", 15.0)):
        best = float(np.median(found[name]))
        details = {
            "pictures": f"{ours} rendered scenes with grain, 500x375, JPEG of {size / 1e3:.0f} KB",
            "cold_start_s": {"ours": cold[name], "peer": cold["peer"], "images": 32},
            "cosine_least": equal[name],
            "limit": {**limits, "network_alone_at_gemm_rate_images_per_s": 1 / floor, "share_reached": floor / best},
        }
        results.append(
            Result(
                name=f"extraction, {'TensorFlow' if name == 'tensorflow' else 'OpenVINO'}",
                peer="`model.predict` for each image",
                ratio=Ratio.of(found[name], found["peer"]),
                goal=goal,
                unit="images/s",
                ours=1 / best,
                peers=1 / float(np.median(found["peer"])),
                equal="features of the same pictures to a cosine of 0.9999; the captions that follow from them",
                details=details,
            )
        )
    return results


def agreement(wanted: np.ndarray, found: np.ndarray) -> float:
    """The least cosine between rows of features. Raises AssertionError below 0.9999."""
    a, b = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (wanted, found))
    least = float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())
    assert least >= 0.9999, f"the features differ: a cosine of {least}"
    return least


def captions_agree(one: np.ndarray, other: np.ndarray) -> None:
    """Raises AssertionError when a trained model captions the features of two engines differently."""
    model = Captioner.load(material.artifact("attention"))
    said, also = ([row[0].caption for row in model.caption_features(rows)] for rows in (one, other))
    assert said == also, f"{sum(a != b for a, b in zip(said, also, strict=True))} of {len(said)} captions differ"
