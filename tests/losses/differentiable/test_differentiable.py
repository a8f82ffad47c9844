"""One call makes any model differentiable, says how, and says what it is worth."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import ensemble, linear_model, neural_network, svm
from torch import nn

from tilth.errors import DataError, MediaError, SettingsError, TrainingError
from tilth.losses.differentiable import DifferentiableModel, as_differentiable
from tilth.losses.differentiable.estimator_distil import DistilSettings, distilled

QUICK = DistilSettings(steps=600, num_inputs=2000)


@pytest.fixture(scope="module")
def table():
    x = np.random.default_rng(0).standard_normal((300, 4))
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]


def slow_score(x):
    flat = x.reshape(len(x), -1)
    return np.tanh(flat[:, 0]) + 0.3 * flat[:, 1]


def test_gradient_reaches_the_inputs_and_no_parameter(table):
    x, y = table
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    for model in (network, svm.SVR().fit(x, y)):
        twin = as_differentiable(model, sample=x)
        before = {name: value.clone() for name, value in twin.state_dict().items()}
        inputs = torch.as_tensor(x[:8], dtype=torch.float32).requires_grad_()
        twin.train()(inputs).sum().backward()
        assert inputs.grad.abs().sum() > 0
        assert all(not each.requires_grad and each.grad is None for each in twin.parameters())
        assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
        assert not any(part.training for part in twin.modules())


def test_torch_module_is_taken_as_it_is_and_left_alone(table):
    x, _ = table
    network = nn.Sequential(nn.Linear(4, 1))
    twin = as_differentiable(network, sample=x)
    assert (twin.way, twin.max_error, twin.r2) == ("as it is", 0.0, 1.0)
    assert network.training
    assert network[0].weight.requires_grad
    rows = torch.as_tensor(x, dtype=torch.float32)
    torch.testing.assert_close(twin(rows), network(rows)[:, 0])
    shared = as_differentiable(network, copy=False)
    assert not network[0].weight.requires_grad
    assert shared.network is network
    assert as_differentiable(shared) is shared


def test_module_without_a_gradient_is_refused_at_once(table):
    x, _ = table

    class Detached(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return x.sum(dim=1)

    class ByNumpy(nn.Module):
        def forward(self, x):
            return torch.as_tensor(x.numpy().sum(axis=1))

    for model, text in ((Detached(), "no_grad"), (ByNumpy(), "NumPy")):
        with pytest.raises(TrainingError, match=f"no gradient reaches the inputs.*{text}"):
            as_differentiable(model, sample=x)
        twin = as_differentiable(model)
        with pytest.raises(TrainingError, match="no gradient"):
            twin(torch.ones(2, 4, requires_grad=True))
        # The way that its error names.
        assert as_differentiable(model, sample=x, method="distil", distil=QUICK).r2 > 0.9


def test_half_precision_in_gives_single_precision_out(table):
    x, y = table
    twin = as_differentiable(svm.SVR().fit(x, y)).half()
    rows = torch.as_tensor(x[:5])
    assert twin(rows.half()).dtype == torch.float32
    assert twin(rows).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(twin(rows), twin.double()(rows))
    # Kernels keep their precision whatever their owner is cast to.
    np.testing.assert_allclose(twin(rows), svm.SVR().fit(x, y).predict(x[:5]), rtol=1e-12)


def test_classes_come_in_the_order_asked_for(table):
    x, y = table
    names = np.array(["cat", "dog", "eel"])[np.digitize(y, [-0.5, 0.5])]
    model = linear_model.LogisticRegression().fit(x, names)
    twin = as_differentiable(model, sample=x, classes=["eel", "cat", "dog"])
    expected = model.predict_proba(x)[:, [2, 0, 1]]
    np.testing.assert_allclose(twin(torch.as_tensor(x)), expected, atol=1e-12)
    with pytest.raises(SettingsError, match="fitted on other classes"):
        as_differentiable(model, classes=["cat", "dog", "fox"])
    with pytest.raises(SettingsError, match="has none"):
        as_differentiable(svm.SVR().fit(x, y), classes=["a", "b"])
    with pytest.raises(SettingsError, match="names no classes"):
        as_differentiable(nn.Linear(4, 2), classes=["a", "b"])


def test_decision_between_two_turns_round_with_the_classes(table):
    x, y = table
    model = svm.LinearSVC().fit(x, y > 0)
    kept = as_differentiable(model, sample=x, classes=[False, True])
    turned = as_differentiable(model, sample=x, classes=[True, False])
    rows = torch.as_tensor(x)
    torch.testing.assert_close(turned(rows), -kept(rows))


def test_labels_alone_have_no_gradient(table):
    x, y = table
    votes = ensemble.VotingClassifier([("one", linear_model.LogisticRegression())]).fit(x, y > 0)
    with pytest.raises(SettingsError, match="labels have no gradient"):
        as_differentiable(votes)


def test_wrong_inputs_are_told_apart(table):
    x, y = table
    twin = as_differentiable(svm.SVR().fit(x, y))
    rows = torch.as_tensor(x[:4])
    with pytest.raises(SettingsError, match="another number of features"):
        twin(rows[:, :3])
    with pytest.raises(SettingsError, match="several inputs at once"):
        twin(rows[0])
    holed = rows.clone()
    holed[2, 1] = torch.nan
    with pytest.raises(DataError, match=r"missing or infinite(.|\n)*\[2, 1\]"):
        twin(holed)
    torch.testing.assert_close(twin(rows.reshape(4, 2, 2)), twin(rows))


def test_wrong_samples_are_told_apart(table):
    x, y = table
    model = svm.SVR().fit(x, y)
    holed = x.copy()
    holed[3, 2] = np.inf
    with pytest.raises(DataError, match=r"\[3, 2\]"):
        as_differentiable(model, sample=holed)
    for wrong in (x[0], x[:0]):
        with pytest.raises(SettingsError, match="not a table of inputs"):
            as_differentiable(model, sample=wrong)
    with pytest.raises(SettingsError, match="not an array of numbers"):
        as_differentiable(model, sample=[["a", "b", "c", "d"]])


def test_settings_that_cannot_be_used_are_refused(table):
    x, y = table
    model = svm.SVR().fit(x, y)
    for settings in ({"method": "magic"}, {"temperature": 0.0}, {"directions": 0}):
        with pytest.raises((SettingsError, TypeError)):
            as_differentiable(model, **settings)
    with pytest.raises(SettingsError, match="nothing that predicts"):
        as_differentiable(3)
    with pytest.raises(SettingsError, match="SVR is a class"):
        as_differentiable(svm.SVR)
    with pytest.raises(SettingsError, match=r"distil\.steps"):
        DistilSettings(steps=0)


def test_ladder_takes_the_best_way_that_holds(table):
    x, y = table
    ways = {
        "exact": neural_network.MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0),
        "smooth": ensemble.GradientBoostingRegressor(random_state=0),
    }
    for way, model in ways.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x, y)
        twin = as_differentiable(model, sample=x)
        assert twin.way == way
        assert twin.description.startswith(way)
        assert twin.num_features == 4
    assert as_differentiable(slow_score, sample=x, distil=QUICK).way == "distilled"


def test_without_a_sample_a_function_is_asked_itself():
    with pytest.warns(UserWarning, match="two calls a feature(.|\n)*without a sample"):
        twin = as_differentiable(slow_score)
    assert (twin.way, twin.r2) == ("finite differences", None)
    inputs = torch.zeros(3, 2, 2, requires_grad=True)
    twin(inputs).sum().backward()
    expected = torch.tensor([1.0, 0.3, 0.0, 0.0]).expand(3, 4).reshape(3, 2, 2)
    torch.testing.assert_close(inputs.grad, expected, rtol=0, atol=1e-5)


def test_function_that_cannot_be_learned_is_asked_itself(table):
    x, _ = table

    def noise(rows):
        return np.sin(1e4 * rows).sum(axis=1)

    with pytest.warns(UserWarning, match=r"8 calls for the gradient of a row(.|\n)*R2 "):
        twin = as_differentiable(noise, sample=x, distil=QUICK)
    assert twin.way == "finite differences"
    with pytest.raises(SettingsError, match=r"kept from it(.|\n)*least_r2="):
        as_differentiable(noise, sample=x, method="distil", distil=QUICK)
    taken = as_differentiable(noise, sample=x, method="distil", distil=QUICK, least_r2=-99.0)
    assert taken.way == "distilled"


def test_distilled_model_states_its_error_on_inputs_kept_from_it(table):
    x, _ = table
    twin = as_differentiable(slow_score, sample=x, method="distil")
    assert twin.r2 > 0.97
    found = twin(torch.as_tensor(x)).numpy()
    assert twin.max_error == pytest.approx(np.abs(found - slow_score(x)).max(), rel=1e-3)
    assert "60 inputs kept from it" in twin.description
    inputs = torch.as_tensor(x).requires_grad_()
    twin(inputs).sum().backward()
    true = np.stack([1 - np.tanh(x[:, 0]) ** 2, 0 * x[:, 0] + 0.3, 0 * x[:, 0], 0 * x[:, 0]], 1)
    cosine = (inputs.grad.numpy() * true).sum(1)
    cosine /= np.linalg.norm(inputs.grad, axis=1) * np.linalg.norm(true, axis=1)
    assert cosine.mean() > 0.9


def test_distilling_is_a_matter_of_the_seed_alone(table):
    x, _ = table
    state = torch.get_rng_state()

    def outputs(rows):
        return slow_score(rows)[:, None]

    settings = DistilSettings(steps=20)
    first, again, other = (
        distilled(outputs, x, settings=settings, seed=seed, progress=False) for seed in (0, 0, 1)
    )
    rows = torch.as_tensor(x).float()
    torch.testing.assert_close(first.network(rows), again.network(rows))
    assert not torch.allclose(first.network(rows), other.network(rows))
    assert torch.equal(torch.get_rng_state(), state)


def test_pictures_are_distilled_in_their_own_shape():
    x = np.random.default_rng(0).standard_normal((200, 2, 3, 2))
    twin = as_differentiable(slow_score, sample=x, distil=QUICK)
    assert (twin.way, twin.num_features) == ("distilled", None)
    inputs = torch.as_tensor(x[:5]).requires_grad_()
    twin(inputs).sum().backward()
    assert inputs.grad.shape == (5, 2, 3, 2)


def test_function_that_answers_badly_is_told_so(table):
    x, _ = table
    wrong = {
        "one output a row": lambda rows: 1.0,
        "missing or infinite": lambda rows: np.full(len(rows), np.nan),
    }
    for text, function in wrong.items():
        with pytest.raises(DataError, match=text):
            as_differentiable(function, sample=x)
    with pytest.raises(SettingsError, match="too small to distil"):
        as_differentiable(slow_score, sample=x[:5], method="distil")


def test_network_of_several_outputs_says_which_is_wanted():
    class Two(nn.Module):
        def forward(self, x):
            return x.sum(dim=1), x.mean(dim=1)

    class Labelled(nn.Module):
        def forward(self, x):
            return {"label": x.argmax(dim=1), "score": x.sum(dim=1)}

    rows = torch.ones(2, 3)
    with pytest.raises(SettingsError, match="several outputs"):
        as_differentiable(Two())(rows)
    assert as_differentiable(Labelled())(rows).tolist() == [3.0, 3.0]


def test_pickles_and_unknown_files_are_refused(tmp_path):
    for name in ("model.pkl", "model.joblib", "model.pt"):
        with pytest.raises(SettingsError, match=r"pickles(.|\n)*skops"):
            as_differentiable(tmp_path / name)
    (tmp_path / "model.xyz").write_bytes(b"")
    with pytest.raises(SettingsError, match="unknown format"):
        as_differentiable(str(tmp_path / "model.xyz"))
    with pytest.raises(MediaError, match="no such model"):
        as_differentiable(tmp_path / "model.onnx")


def test_exported_program_is_read(tmp_path):
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).eval()
    rows = torch.randn(6, 4)
    shape = {"input": {0: torch.export.Dim("batch")}}
    torch.export.save(
        torch.export.export(network, (rows,), dynamic_shapes=shape), tmp_path / "model.pt2"
    )
    twin = as_differentiable(tmp_path / "model.pt2", sample=rows)
    assert twin.way == "as it is"
    assert "model.pt2" in twin.description
    inputs = rows.clone().requires_grad_()
    found = twin.train()(inputs)
    torch.testing.assert_close(found, network(rows)[:, 0])
    found.sum().backward()
    assert inputs.grad.abs().sum() > 0
    (tmp_path / "broken.pt2").write_bytes(b"nothing")
    with pytest.raises(MediaError, match="not a program"):
        as_differentiable(tmp_path / "broken.pt2")


def test_exported_program_with_a_pickle_inside_is_refused(tmp_path):
    import pickle
    import zipfile

    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    rows = torch.randn(6, 4)
    path, bad = tmp_path / "model.pt2", tmp_path / "bad.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 1), (rows,)), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bad, "w") as target:
        names = source.namelist()
        trapped = next(name for name in names if name.endswith("sample_inputs/model.pt"))
        for name in names:
            content = pickle.dumps(Trap()) if name == trapped else source.read(name)
            target.writestr(name, content)
    with pytest.raises(SettingsError, match="holds a pickle"):
        as_differentiable(bad)


def test_skops_file_is_read_and_strangers_in_it_are_refused(tmp_path, table):
    skops = pytest.importorskip("skops.io")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    x, y = table
    model = make_pipeline(StandardScaler(), FunctionTransformer(np.arcsinh), svm.SVR()).fit(x, y)
    skops.dump(model, tmp_path / "model.skops")
    twin = as_differentiable(tmp_path / "model.skops", sample=x)
    assert twin.way == "exact"
    np.testing.assert_allclose(twin(torch.as_tensor(x)), model.predict(x), rtol=1e-9)
    forest = ensemble.GradientBoostingRegressor(n_estimators=5).fit(x, y)
    skops.dump(forest, tmp_path / "forest.skops")
    assert as_differentiable(tmp_path / "forest.skops", sample=x, least_r2=0.5).way == "smooth"
    strange = make_pipeline(FunctionTransformer(slow_score), svm.SVR())
    skops.dump(strange, tmp_path / "strange.skops")
    with pytest.raises(SettingsError, match="slow_score"):
        as_differentiable(tmp_path / "strange.skops")
    unsafe = make_pipeline(FunctionTransformer(np.fromfile), svm.SVR())
    skops.dump(unsafe, tmp_path / "unsafe.skops")
    with pytest.raises(SettingsError, match="fromfile"):
        as_differentiable(tmp_path / "unsafe.skops")


def test_model_can_be_kept_with_its_weights(table):
    x, y = table
    twin = as_differentiable(svm.SVR().fit(x, y))
    again = as_differentiable(svm.SVR().fit(x, -y))
    assert isinstance(again, DifferentiableModel)
    assert set(again.state_dict()) == set(twin.state_dict())


def test_onnx_file_is_checked_against_its_runtime(tmp_path, table):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    x, _ = table
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((4, 1)), "b": random.standard_normal(1)}
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["a"]),
            helper.make_node("Tanh", ["a"], ["y"]),
        ],
        "score",
        [helper.make_tensor_value_info("x", kind, ["n", 4])],
        [helper.make_tensor_value_info("y", kind, ["n", 1])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "score.onnx")
    for given in (tmp_path / "score.onnx", model):
        twin = as_differentiable(given, sample=x)
        assert twin.way == "exact"
        assert twin.max_error < 1e-6
        assert "of onnxruntime on 300 inputs" in twin.description
    inputs = torch.as_tensor(x).requires_grad_()
    found = twin(inputs)
    np.testing.assert_allclose(
        found.detach(), np.tanh(x @ weights["w"] + weights["b"])[:, 0], atol=1e-5
    )
    found.sum().backward()
    assert inputs.grad.abs().sum() > 0
