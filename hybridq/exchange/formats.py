"""Every format that leaves or enters, by name: the one table. A format is one file with its writer and its reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hybridq.errors import ConfigError
from hybridq.exchange import (
    aimet_061,
    aimet_100,
    aimet_200,
    esp_ppq,
    litert,
    mnn,
    ncnn,
    nncase,
    onnx_float,
    openvino,
    ort_overrides,
    our_csv,
    our_json,
    pulsar2,
    rknn1,
    rknn1_params,
    rknn2,
    rknn_cfg,
    tensorrt_cache,
    tensorrt_precisions,
    tensorrt_ranges,
    tflite_params,
    tpu_mlir,
)
from hybridq.exchange.records import Export, ExportOptions, Wanted
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.records import Calibrated

Write = Callable[[View, ExportOptions], Export]
Read = Callable[[str, str, Model, Calibrated], Wanted]


@dataclass(frozen=True, slots=True)
class Format:
    """A format. ``read`` takes text, path, model and what step1 decided; ``recognise`` knows a file by its text.

    ``samples``: it takes calibration samples along. ``next`` are the commands that use what was written at ``{path}``
    (in Python ``{text}``); ``{folder}`` is the one it was written from.
    """

    title: str
    write: Write
    read: Read | None = None
    recognise: Callable[[str], bool] | None = None
    samples: bool = False
    next: tuple[str, ...] = ()


FLOAT = "model_float.onnx"
MODEL = f"hybridq step4 {{folder}} --to onnx-float -o {FLOAT}"  # what formats of parameters alone go with
QNN = (MODEL, f"qnn-onnx-converter --input_network {FLOAT} --quantization_overrides {{path}}")
AIMET = (MODEL, f"load_encodings_to_sim(QuantizationSimModel(onnx.load({FLOAT!r})), {{text}})")
RKNN1 = ("rknn.hybrid_quantization_step2(..., model_quantization_cfg={text})",)
MNN = f"mnnconvert -f ONNX --modelFile {FLOAT} --MNNModel model.mnn --bizCode MNN --compressionParamsFile {{path}}"
OVERRIDES = "quantize_static(..., extra_options={{'TensorQuantOverrides': ...}})  # words become enums"
TPU = "model_deploy ... --calibration_table {path}/model_cali_table --quantize_table {path}/model_qtable"
FORMATS: dict[str, Format] = {
    "rknn2": Format(
        "RKNN-Toolkit2: convert.py, and its cfg",
        rknn2.write,
        rknn_cfg.read,
        rknn2.recognise,
        True,
        ("cd {path} && python convert.py --platform rk3588",),
    ),
    "rknn1": Format("RKNN-Toolkit 1.x: its cfg", rknn1.write, rknn_cfg.read, rknn1.recognise, next=RKNN1),
    "rknn1-params": Format(
        "RKNN-Toolkit 1.x: exported parameters", rknn1_params.write, rknn1_params.read, rknn1_params.recognise
    ),
    "aimet-0.6.1": Format(
        "AIMET, QNN, SNPE: encodings", aimet_061.write, aimet_061.read, aimet_061.recognise, next=QNN
    ),
    "aimet-1.0.0": Format(
        "AIMET, QNN, SNPE: encodings", aimet_100.write, aimet_100.read, aimet_100.recognise, next=QNN
    ),
    "aimet-2.0.0": Format(
        "AIMET: encodings in ONNX's terms", aimet_200.write, aimet_200.read, aimet_200.recognise, next=AIMET
    ),
    "tensorrt-cache": Format(
        "TensorRT: calibration cache",
        tensorrt_cache.write,
        tensorrt_cache.read,
        tensorrt_cache.recognise,
        next=(MODEL, f"trtexec --onnx={FLOAT} --int8 --calib={{path}}"),
    ),
    "tensorrt-ranges": Format(
        "TensorRT: dynamic ranges", tensorrt_ranges.write, tensorrt_ranges.read, tensorrt_ranges.recognise
    ),
    "tensorrt-precisions": Format(
        "TensorRT: layer precisions", tensorrt_precisions.write, tensorrt_precisions.read, tensorrt_precisions.recognise
    ),
    "tflite-params": Format("TFLite: parameters of every tensor", tflite_params.write),
    "ort-overrides": Format("ONNX Runtime: TensorQuantOverrides", ort_overrides.write, next=(MODEL, OVERRIDES)),
    "ncnn": Format(
        "ncnn: calibration table",
        ncnn.write,
        ncnn.read,
        ncnn.recognise,
        next=(
            MODEL,
            f"pnnx {FLOAT}",
            "ncnn2int8 IN.param IN.bin OUT.param OUT.bin {path}  # under the names that pnnx gave",
        ),
    ),
    "mnn": Format("MNN: compression parameters", mnn.write, next=(MODEL, MNN)),
    "tpu-mlir": Format(
        "TPU-MLIR: calibration table, qtable", tpu_mlir.write, tpu_mlir.read, tpu_mlir.recognise, next=(MODEL, TPU)
    ),
    "litert": Format(
        "LiteRT: quantize.py for ai-edge-quantizer",
        litert.write,
        samples=True,
        next=("onnx2tf -i {path}/model.onnx -o tf", "python {path}/quantize.py tf/model_float32.tflite"),
    ),
    "nncase": Format("nncase: quantization scheme", nncase.write, next=(MODEL, "ptq_options.quant_scheme = {text}")),
    "pulsar2": Format(
        "Pulsar2 (Axera): build config",
        pulsar2.write,
        pulsar2.read,
        pulsar2.recognise,
        next=(MODEL, f"pulsar2 build --input {FLOAT} --config {{path}}"),
    ),
    "esp-ppq": Format("ESP-PPQ: quantization config", esp_ppq.write, next=(MODEL,)),
    "openvino": Format("OpenVINO: portable QDQ model", openvino.write, next=("python {path}/run.py",)),
    "onnx-float": Format("any toolchain: the repaired float model", onnx_float.write),
    "json": Format("ours, complete", our_json.write, our_json.read, our_json.recognise),
    "csv": Format("ours, as a table", our_csv.write, our_csv.read, our_csv.recognise),
}
READABLE = tuple(name for name, f in FORMATS.items() if f.read is not None)


def named(name: str) -> Format:
    """A format by its name. Raises ConfigError that names the choices."""
    if name not in FORMATS:
        raise ConfigError(f"'{name}' is no format", hint=f"Choose {', '.join(FORMATS)}.")
    return FORMATS[name]


def recognised(text: str, path: str) -> str:
    """The name of the format that a file's text is in. Raises ConfigError where none knows it."""
    found = next((n for n in READABLE if (know := FORMATS[n].recognise) and know(text)), None)
    if found is None:
        hint = f"Name its format: --from {'|'.join(READABLE)}."
        raise ConfigError("no format that hybridq knows at sight", path=path, line=1, hint=hint)
    return found
