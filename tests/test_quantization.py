"""int8 files: which nodes stay in float32, and what outliers do to the ranges."""

from __future__ import annotations

import logging

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from smoothdistill.quantization import first_convolutions, quantize_static  # noqa: E402

CHANNELS, TIME, CLASSES = 3, 16, 4


def write_model(path, *, branches=1):
    """(signals - mean) / deviation, convolutions side by side, one after them, a linear layer."""
    rng = np.random.default_rng(0)
    constants, nodes = {}, []

    def constant(name, *shape):
        constants[name] = rng.normal(size=shape).astype(np.float32)
        return name

    def node(op, name, inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    node("Sub", "centred", ["signals", constant("mean", CHANNELS, 1)])
    node("Div", "scaled", ["centred", constant("deviation", CHANNELS, 1)])
    pads = {"pads": [1, 1]}
    for one in range(branches):
        node("Conv", f"first{one}", ["scaled", constant(f"w{one}", 8, CHANNELS, 3)], **pads)
    summed = "first0" if branches == 1 else node("Add", "summed", ["first0", "first1"])
    node("Relu", "open", [summed])
    node("Conv", "second", ["open", constant("w9", 8, 8, 3)], **pads)
    node("Flatten", "flat", ["second"])
    node("Gemm", "activity", ["flat", constant("head", 8 * TIME, CLASSES)])
    signals = helper.make_tensor_value_info("signals", TensorProto.FLOAT, ["b", CHANNELS, TIME])
    logits = helper.make_tensor_value_info("activity", TensorProto.FLOAT, ["b", CLASSES])
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [signals], [logits], weights)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def ask(path, signals):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"signals": signals})[0]


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("branches", [1, 2])
def test_convolutions_of_the_scaled_signals_stay_in_float32(branches, tmp_path):
    write_model(tmp_path / "float32.onnx", branches=branches)
    graph = onnx.load(tmp_path / "float32.onnx").graph
    assert first_convolutions(graph) == [f"first{one}" for one in range(branches)]
    signals = np.random.default_rng(1).normal(size=(64, CHANNELS, TIME)).astype(np.float32)
    quantize_static(tmp_path / "float32.onnx", tmp_path / "int8.onnx", signals)
    made = onnx.load(tmp_path / "int8.onnx").graph
    types = {one.name: one.data_type for one in made.initializer}
    inputs = {one.output[0]: one for one in made.node}
    by_name = {one.name: one for one in made.node}
    for one in range(branches):
        weights = by_name[f"first{one}"].input[1]
        assert types[weights] == TensorProto.FLOAT
    for name in ("second", "activity"):
        source = next(one for key, one in by_name.items() if key.startswith(name)).input[1]
        assert inputs[source].op_type == "DequantizeLinear"
        assert types[inputs[source].input[0]] == TensorProto.INT8


@pytest.mark.parametrize("num_windows", [1, 63, 64, 70, 200])
def test_any_number_of_windows_calibrates(num_windows, tmp_path):
    write_model(tmp_path / "float32.onnx")
    rng = np.random.default_rng(num_windows)
    signals = rng.normal(size=(num_windows, CHANNELS, TIME)).astype(np.float32)
    quantize_static(tmp_path / "float32.onnx", tmp_path / "int8.onnx", signals)
    expected, found = (ask(tmp_path / f"{one}.onnx", signals) for one in ("float32", "int8"))
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()


def test_one_outlier_hardly_widens_the_range(tmp_path):
    """One sample 30 times as large: by the largest value steps would be 7 times as wide."""
    write_model(tmp_path / "float32.onnx")
    signals = np.random.default_rng(1).normal(size=(512, CHANNELS, TIME)).astype(np.float32)
    spoilt = signals.copy()
    spoilt[100, 0, 5] *= 30.0 / abs(spoilt[100, 0, 5])
    errors = []
    for calibrating in (signals, spoilt):
        quantize_static(tmp_path / "float32.onnx", tmp_path / "int8.onnx", calibrating)
        expected, found = (ask(tmp_path / f"{one}.onnx", signals) for one in ("float32", "int8"))
        errors.append(np.abs(found - expected).mean())
    assert errors[1] < 1.5 * errors[0]
