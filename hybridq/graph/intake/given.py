"""Reading the given file: an ONNX model in floats, its weights beside it; anything else is refused with the remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from hybridq.errors import ModelError
from hybridq.files.reading import look_at
from hybridq.graph.edit import graphs
from hybridq.graph.load import is_within, load_graph, load_weights
from hybridq.graph.outside import is_outside
from hybridq.graph.words import first_line

DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat")
INTEGER = ("MatMulInteger", "ConvInteger")  # what quantize_dynamic makes of a MatMul and a Conv
TORCH = "torch.onnx.export(model, example_input, 'model.onnx', opset_version=17)"
OTHER_FORMATS = {  # suffix: (whose it is, how an ONNX model is made of it)
    ".pt": ("PyTorch", f"Export it from Python: {TORCH}; an Ultralytics model: yolo export model=FILE.pt format=onnx"),
    ".pth": ("PyTorch", f"Export it from Python: {TORCH}"),
    ".ckpt": ("PyTorch", f"Export it from Python: {TORCH}"),
    ".safetensors": ("safetensors, weights without a graph", f"Load it into its model and export: {TORCH}"),
    ".tflite": ("TensorFlow Lite", "python -m tf2onnx.convert --tflite FILE.tflite --output model.onnx --opset 17"),
    ".pb": (
        "TensorFlow",
        "python -m tf2onnx.convert --graphdef FILE.pb --inputs X:0 --outputs Y:0 --output m.onnx",
    ),
    ".h5": ("Keras", "python -m tf2onnx.convert --keras FILE.h5 --output model.onnx --opset 17"),
    ".keras": ("Keras", "In Python: keras.models.load_model(FILE).export('model.onnx', format='onnx')"),
    ".caffemodel": ("Caffe", "python -m caffe2onnx.convert --prototxt FILE.prototxt --caffemodel FILE.caffemodel"),
    ".pdmodel": ("PaddlePaddle", "paddle2onnx --model_dir DIR --model_filename FILE.pdmodel --save_file model.onnx"),
    ".mlmodel": ("Core ML", "In Python: onnxmltools.convert_coreml(coremltools.models.MLModel(FILE))"),
    ".rknn": ("RKNN", "Give the ONNX model it was made from."),
    ".ort": ("ONNX Runtime's own format", "Give the ONNX model it was made from."),
    ".engine": ("TensorRT", "Give the ONNX model it was made from."),
    ".xml": ("OpenVINO", "Give the ONNX model it was made from."),
}


def read_model(path: Path) -> ModelProto:
    """Read and check a float ONNX model. Raises ModelError with what is wrong and what to do."""
    if path.is_dir():
        raise ModelError("this is a folder; give an .onnx file", path=str(path))
    if look_at(path, ModelError) == 0:
        raise ModelError("not an ONNX model: the file is empty", path=str(path), hint="Copy or export it again.")
    _refuse_other_formats(path)
    try:
        proto = load_graph(path)
    except Exception as error:
        raise ModelError("not an ONNX model, or cut short", path=str(path), hint=first_line(error)) from error
    if not proto.graph.node:
        raise ModelError("not an ONNX model: it has no nodes", path=str(path))
    if not _is_text(proto.graph):
        raise ModelError("damaged: a name in it is no text", path=str(path))
    _load_weights(proto, path)
    _fill_sparse(proto.graph)
    _refuse_quantized(proto, path)
    return proto


def _refuse_other_formats(path: Path) -> None:
    known = OTHER_FORMATS.get(path.suffix.lower())
    if known:
        name, remedy = known
        remedy = remedy.replace(f"FILE{path.suffix.lower()}", path.name).replace("FILE", path.stem)
        raise ModelError(f"not an ONNX model: {path.suffix} is {name}", path=str(path), hint=remedy)


def _load_weights(proto: ModelProto, path: Path) -> None:
    """Bring in the weights that lie in other files."""
    missing = _missing_files(proto, path)
    if missing:
        hint = f"Put {missing[0]} into the model's folder, or export the model with its weights inside."
        raise ModelError(f"its weights lie in another file, which is missing: {missing[0]}", path=str(path), hint=hint)
    load_weights(proto, path)


def _missing_files(proto: ModelProto, path: Path) -> list[str]:
    """The files that initializers lie in and that are not there."""
    lie = [t for t in proto.graph.initializer if is_outside(t) and not is_within(t, path)]
    named = dict.fromkeys(p.value for t in lie for p in t.external_data if p.key == "location")
    return [name for name in named if not (path.parent / name).exists()]


def _fill_sparse(whole: GraphProto) -> None:
    """Write constants that list but their numbers other than zero as all others are written."""
    for graph in graphs(whole):
        graph.initializer.extend(map(_dense, graph.sparse_initializer))
        del graph.sparse_initializer[:]
        for held in (a for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "sparse_value"):
            held.CopyFrom(helper.make_attribute("value", _dense(held.sparse_tensor)))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    whole = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim > 1:  # a row of coordinates a number
        whole[tuple(places.T)] = values
    else:
        whole.reshape(-1)[places] = values
    return numpy_helper.from_array(whole, sparse.values.name)


def _is_text(graph: GraphProto) -> bool:
    """Whether every name is text; protobuf gives bytes for what is not."""
    words = [w for n in graph.node for w in (n.op_type, n.name, n.domain, *n.input, *n.output)]
    words += [v.name for v in [*graph.input, *graph.output, *graph.value_info]] + [t.name for t in graph.initializer]
    return all(isinstance(w, str) for w in words)


def _refuse_quantized(proto: ModelProto, path: Path) -> None:
    """Refuse what the dynamic quantizer made; an integer product that is fed both operands is one more operator."""
    constants = {t.name for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.input and all(name in constants for name in node.input):
            constants.update(node.output)
        elif node.op_type in (*DYNAMIC, *INTEGER) and not constants.isdisjoint(node.input[1:]):
            named = f"{node.op_type} '{node.name or next(iter(node.output), '')}'"
            hint = "Give the float32 model that the dynamic quantizer was given; hybridq measures fixed ranges instead."
            raise ModelError(f"the model is quantized already, dynamically: {named}", path=str(path), hint=hint)
