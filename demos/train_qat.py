"""Train the demo's detector with fake quantization and export it as the frameworks do: models that arrive quantized.

PyTorch's two ways: ``fx`` (``prepare_qat_fx``), exported with its fake quantizers or, as ``converted``, as quantized
operators; and ``pt2e`` (``prepare_qat_pt2e`` of torchao, with onnxscript for the export). Activations are uint8,
weights int8. Runs from the repository root, with the extra ``train`` installed::

    python demos/train_qat.py --form fx --out qat.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.ao.quantization import disable_observer, get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_qat_fx
from train_demo import NETWORKS, TRAIN, Detector, Scans, compose, conv, loss, normalized, validate

from hybridq.demo import SHAPE
from hybridq.demo.data import INPUT, OUTPUT

EXAMPLE = (torch.zeros(SHAPE),)


def tiny() -> Detector:
    """Six thousand weights: for tests, not for digits."""
    stem = nn.Sequential(*conv(1, 8, 5, 8), nn.Hardswish())
    neck = nn.Sequential(*conv(16, 16, 3, groups=16), *conv(16, 96, 1), nn.ReLU())
    return Detector(stem, nn.Sequential(*conv(8, 16, 3, 2), nn.SiLU()), neck)


def fx(network: Detector) -> nn.Module:
    """Fake quantizers by ``prepare_qat_fx``, in the form that ONNX has."""
    return prepare_qat_fx(network.train(), get_default_qat_qconfig_mapping("qnnpack", version=0), EXAMPLE)


def pt2e(network: Detector) -> nn.Module:
    """Fake quantizers by ``prepare_qat_pt2e``."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config(is_qat=True)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    return prepare_qat_pt2e(torch.export.export(network.train(), EXAMPLE).module(), quantizer)


def converted(model: nn.Module, form: str) -> nn.Module:
    """What is exported: fake quantizers as they are, or integers in their place."""
    if form == "pt2e":
        from torchao.quantization.pt2e import move_exported_model_to_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        return convert_pt2e(move_exported_model_to_eval(model))
    model.eval().apply(disable_observer)
    return convert_fx(model) if form == "converted" else model


def train(model: nn.Module, steps: int, seed: int) -> None:
    """Train on pictures composed on the fly, one at a time: an exported model's batch is fixed."""
    import numpy as np

    rng, scans = np.random.default_rng(seed), Scans.load(TRAIN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    for step in range(1, steps + 1):
        picture, truth = compose(scans, rng)
        value: Tensor = loss(model(normalized([picture])), [truth])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step:5} loss {value.item():.4f}", flush=True)


def export(model: nn.Module, path: Path, form: str) -> None:
    """Write the network as ONNX by the exporter that knows its form."""
    words = {"dynamo": True, "opset_version": 21} if form == "pt2e" else {"dynamo": False, "opset_version": 17}
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    torch.onnx.export(model, EXAMPLE, path, external_data=False, **words, **names)


def main() -> None:
    """Train and export."""
    networks: dict[str, Callable[[], Detector]] = {**NETWORKS, "tiny": tiny}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=("fx", "converted", "pt2e"), default="fx")
    parser.add_argument("--network", choices=networks, default="plain")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("qat.onnx"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    torch.backends.quantized.engine = "qnnpack"
    network = networks[options.network]()
    model = pt2e(network) if options.form == "pt2e" else fx(network)
    train(model, options.steps, options.seed)
    model = converted(model, options.form)
    validate(model)
    export(model, options.out, options.form)


if __name__ == "__main__":
    main()
