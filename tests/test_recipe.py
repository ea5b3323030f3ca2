"""Recipes: those in the package against the facts, and what is said about one that cannot be."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from neurodense.errors import RecipeError
from neurodense.scans.preprocess import Preprocess
from neurodense.training.recipe import (
    STEPS,
    Recipe,
    Stage,
    load_recipe,
    parse_recipe,
    recipe_names,
    recipe_text,
)
from neurodense.training.variation import Augment, Lesions, Teaching

NAMES = ["brain", "brain-heads", "brain-taught", "brain-warm", "demo", "finetune", "notebook", "scratch"]


def text(top="", stage="", more=""):
    """A recipe's TOML with one good stage, and what is added to it."""
    return f"""
name = "mine"
summary = "One stage."
{top}
[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-3
epochs = 2
{stage}
{more}
"""


SECOND = '[[stage]]\nname = "second"\ntrainable = {}\nlearning_rate = 1e-4\nepochs = 1\n{}'


def refusal(content, *parts, absent=()):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content, "my.toml")
    said = str(caught.value)
    assert said.startswith("my.toml")
    for part in parts:
        assert part in said
    for part in absent:
        assert part not in said


# ---- the recipes in the package ---------------------------------------------------------------------------------


def test_the_names():
    assert recipe_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_and_says_what_it_is_for(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe == parse_recipe(recipe_text(name), "again")
    assert recipe_text(name).startswith("# ")
    assert len(recipe.summary) < 130


def test_notebook_is_the_published_recipe_fact_by_fact():
    recipe = load_recipe("notebook")
    assert recipe.image_size == 224
    assert recipe.batch_size == 32
    assert recipe.dropout == 0.3
    assert recipe.weights == "imagenet"
    assert recipe.keep == "last"
    assert not recipe.augmented
    assert recipe.views == 1
    assert recipe.label_smoothing == 0
    assert recipe.class_weights == "none"
    assert recipe.balance == "none"
    assert [stage.epochs for stage in recipe.stage] == [10, 5, 5, 3]
    assert recipe.epochs == 23
    assert [stage.learning_rate for stage in recipe.stage] == [1e-4, 1e-5, 1e-5, 1e-5]
    assert [stage.trainable for stage in recipe.stage] == [("classifier",), *[("denseblock4", "classifier")] * 3]
    assert [stage.continued for stage in recipe.stage] == [False, False, True, True]
    for stage in recipe.stage:
        assert stage.optimizer == "adam"
        assert stage.weight_decay == 0
        assert stage.schedule == "constant"
        assert stage.batch_norm == "batch"
        assert stage.ema == 0
    said = recipe_text("notebook")
    assert "BatchNorm" in said  # the one difference is stated
    assert "held still" in said


def test_finetune_and_scratch_are_what_they_say():
    finetune, scratch = load_recipe("finetune"), load_recipe("scratch")
    assert (finetune.weights, finetune.keep, finetune.augmented) == ("imagenet", "best", True)
    assert finetune.views > 1
    assert all(stage.cut > 0 for stage in finetune.stage)
    assert 'class_weights = "balanced"' in recipe_text("finetune")  # on request, and how
    assert (scratch.weights, scratch.keep, scratch.augmented) == ("none", "best", True)
    assert all(stage.cut == 0 for stage in scratch.stage)


# ---- reading ----------------------------------------------------------------------------------------------------


def test_defaults():
    recipe = parse_recipe(text(), "x")
    assert (recipe.image_size, recipe.batch_size, recipe.dropout, recipe.keep) == (224, 32, 0.3, "best")
    assert recipe.augment == Augment()
    assert not recipe.augmented
    stage = recipe.stage[0]
    assert (stage.optimizer, stage.weight_decay, stage.schedule, stage.continued) == ("adam", 0, "constant", False)


def test_whole_numbers_may_stand_for_decimal_ones():
    recipe = parse_recipe(text("dropout = 0\n[augment]\nrotate_degrees = 15", "weight_decay = 1"), "x")
    assert recipe.augment.rotate_degrees == 15
    assert recipe.augmented
    assert recipe.stage[0].weight_decay == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_travels_as_json_and_toml(name):
    tomli_w = pytest.importorskip("tomli_w")
    recipe = load_recipe(name)
    dumped = recipe.model_dump(mode="json")
    assert Recipe.model_validate(dumped) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert parse_recipe(tomli_w.dumps(dumped), "again") == recipe


def test_every_key_of_a_file_arrives():
    written = tomllib.loads(recipe_text("scratch"))
    loaded = load_recipe("scratch").model_dump(mode="json")
    for key, value in written.items():
        pairs = zip(value, loaded[key], strict=True) if key == "stage" else [(value, loaded[key])]
        for ours, theirs in pairs:
            assert ours == ({k: theirs[k] for k in ours} if isinstance(ours, dict) else theirs)


@pytest.mark.parametrize(
    ("trainable", "cut"),
    [
        (("all",), 0),
        (("classifier", "all"), 0),
        (("stem",), 1),
        (("denseblock4", "classifier"), STEPS.index("denseblock4")),
        (("classifier", "norm5", "transition2"), STEPS.index("transition2")),
        (("norm5",), STEPS.index("norm5")),
        (("classifier",), len(STEPS) - 1),
    ],
)
def test_the_cut_is_before_the_first_step_that_trains(trainable, cut):
    assert Stage(name="x", trainable=trainable, learning_rate=1e-3, epochs=1).cut == cut


def test_a_recipe_does_not_change():
    recipe = load_recipe("notebook")
    with pytest.raises(ValueError, match="frozen"):
        recipe.dropout = 0.5
    assert {recipe: 1}[load_recipe("notebook")] == 1


def test_continue_for():
    recipe = load_recipe("notebook")
    longer = recipe.continue_for(4)
    assert longer.stage[:4] == recipe.stage
    assert longer.stage[4].model_dump() == {
        **recipe.stage[3].model_dump(), "name": "continued 1", "epochs": 4, "continued": True,
    }  # fmt: skip
    assert longer.epochs == 27
    again = longer.continue_for(1)
    assert [stage.name for stage in again.stage[4:]] == ["continued 1", "continued 2"]
    assert recipe.epochs == 23
    assert load_recipe("scratch").continue_for(1).stage[1].trainable == ("all",)


@pytest.mark.parametrize("epochs", [0, -1])
def test_continue_for_no_epochs(epochs):
    recipe = load_recipe("notebook")
    with pytest.raises(RecipeError, match=rf"recipe notebook: 'stage\.5\.epochs': .*or equal to 1, got {epochs}"):
        recipe.continue_for(epochs)


# ---- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [Recipe, Stage, Augment, Lesions, Teaching], ids=lambda table: table.__name__)
def test_every_key_is_in_the_documentation(table):
    said = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    keys = set(table.model_fields) - {"stage"}
    assert not [key for key in keys if f"`{key}`" not in said and f"`[{key}]`" not in said and f"\n{key} =" not in said]


def test_the_preprocessing_is_what_the_recipe_says():
    """As in the card; of a recipe that says nothing, what the published notebook does."""
    recipe = parse_recipe(text("image_size = 96\ncrop = 'head'\nintensity = 'percentile'"), "x")
    assert recipe.preprocess == Preprocess(size=96, crop="head", intensity="percentile")
    assert load_recipe("notebook").preprocess == Preprocess(size=224, crop="none", intensity="asis")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (text("dropot = 0.1"), ["unknown key 'dropot' (did you mean 'dropout'?); allowed are name, summary,"]),
        (text("[augment]\nflp = true"), ["unknown key 'augment.flp' (did you mean 'flip'?); allowed are flip, "]),
        (text(stage="learning_rte = 1"), ["unknown key 'stage.1.learning_rte' (did you mean 'learning_rate'?)", "ema"]),
        (text("zzz = 1"), ["unknown key 'zzz'; allowed are name, "]),
        (text("learning_rate = 1e-3"), ["unknown key 'learning_rate' (it belongs below [[stage]]); allowed are "]),
        (text("[augment]\ndropout = 0.1"), ["unknown key 'augment.dropout' (it belongs above the first [table])"]),
        (text(stage="flip = true"), ["unknown key 'stage.1.flip' (it belongs below [augment]); allowed are name, "]),
        (text("zzz = 1\nkeep = 'none'"), ["unknown key 'zzz'", "'keep': input should be 'best' or 'last', got 'none'"]),
    ],
)  # fmt: skip
def test_unknown_keys(content, parts):
    refusal(content, *parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (text("batch_size = 1"), ["'batch_size'", "greater than or equal to 2", "got 1"]),
        (text("batch_size = 16.0"), ["'batch_size'", "valid integer", "got 16.0"]),
        (text("batch_size = '16'"), ["'batch_size'", "valid integer", "got '16'"]),
        (text("crop = 'centre'"), ["'crop'", "'none' or 'head'", "got 'centre'"]),
        (text("image_size = true"), ["'image_size'", "valid integer", "got True"]),
        (text("image_size = 513"), ["'image_size'", "less than or equal to 512", "got 513"]),
        (text("dropout = 1"), ["'dropout'", "less than 1", "got 1"]),
        (text("dropout = nan"), ["'dropout'", "got nan"]),
        (text("dropout = true"), ["'dropout'", "valid number", "got True"]),
        (text("weights = 'mine.pth'"), ["'weights'", "'imagenet', 'brain' or 'none'", "got 'mine.pth'"]),
        (text("class_weights = [1, 2]"), ["'class_weights'", "'none' or 'balanced'", "got [1, 2]"]),
        (text("balance = 'source'"), ["'balance'", "'none', 'root' or 'group'", "got 'source'"]),
        (text("[augment]\nflip = 1"), ["'augment.flip'", "valid boolean", "got 1"]),
        (text("[augment]\nscale = -0.1"), ["'augment.scale'", "greater than or equal to 0", "got -0.1"]),
        (text("augment = 3"), ["'augment': must be a table, [augment], got 3"]),
        (text(stage="optimizer = 'Adam'"), ["'stage.1.optimizer'", "'adam', 'adamw' or 'sgd'", "got 'Adam'"]),
        (text(stage="schedule = 'linear'"), ["'stage.1.schedule'", "'constant', 'cosine' or 'one-cycle'"]),
        (text(stage="ema = 1.0"), ["'stage.1.ema'", "less than 1", "got 1.0"]),
        (text(stage="weight_decay = inf"), ["'stage.1.weight_decay'", "less than or equal to 1", "got inf"]),
        (text(more=SECOND.format('["dense4"]', "")), ["'stage.2.trainable.1'", "'denseblock4'", "got 'dense4'"]),
        (text(more=SECOND.format('"all"', "")), ["must be a list such as [\"classifier\"], got 'all'"]),
        (text(more=SECOND.format("[]", "")), ["'stage.2.trainable'", "at least 1 item", "got []"]),
        (text().replace("epochs = 2", "epochs = 0"), ["'stage.1.epochs'", "greater than or equal to 1", "got 0"]),
        (text().replace("1e-3", "0.0"), ["'stage.1.learning_rate'", "greater than 0", "got 0.0"]),
        (text().replace('"mine"', '""'), ["'name'", "at least 1 character", "got ''"]),
        ("name = 'x'\nsummary = 's'\nstage = []", ["'stage'", "at least 1 item"]),
        ("name = 'x'\nsummary = 's'\n[stage]\nname = 'a'", ["'stage': each stage begins with [[stage]]"]),
    ],
)  # fmt: skip
def test_impossible_values(content, parts):
    refusal(
        content,
        *parts,
        "neurodense recipes finetune shows a complete recipe",
        absent=["after validation, not 0, got [{"],
    )


def test_missing_keys():
    refusal("", "key 'name' is missing", "key 'summary' is missing", "key 'stage' is missing")
    refusal(text().replace("learning_rate = 1e-3", ""), "key 'stage.1.learning_rate' is missing", absent=["item"])


@pytest.mark.parametrize("content", ["name =", "name = 'x'\nname = 'y'", "[stage", "name = 'x' summary = 's'"])
def test_bad_toml(content):
    refusal(content, "my.toml is not valid TOML: ", "(at ")


def test_stage_names_differ():
    twice = SECOND.format('["all"]', "").replace("second", "head")
    refusal(text(more=twice), "stage names must differ, got head, head")


@pytest.mark.parametrize(
    "content",
    [
        text(stage="continued = true"),
        text(more=SECOND.format('["all"]', "continued = true")),
        text(more=SECOND.format('["classifier"]', "continued = true\noptimizer = 'sgd'")),
    ],
    ids=["first", "other parts", "other optimizer"],
)
def test_what_cannot_be_continued(content):
    refusal(content, "is continued, so the stage before must train the same parts with the same optimizer")


def test_what_can_be_continued():
    more = SECOND.format('["norm5", "classifier"]', "") + SECOND.format('["classifier", "norm5"]', "continued = true")
    recipe = parse_recipe(text(more=more.replace("second", "third", 1)), "x")
    assert recipe.stage[2].continued


# ---- names and files --------------------------------------------------------------------------------------------


def test_unknown_names():
    with pytest.raises(
        RecipeError,
        match="There is no recipe 'notbook'; there are brain, brain-heads, brain-taught, brain-warm, demo, finetune, ",
    ) as e:
        load_recipe("notbook")
    assert e.value.hint == "Did you mean notebook?"
    assert "a file ending in .toml" in e.value.message
    with pytest.raises(RecipeError, match=r"There is no recipe '\.\./notebook'"):
        load_recipe("../notebook")
    with pytest.raises(RecipeError, match="There is no recipe ''") as e:
        load_recipe("")
    assert e.value.hint == "neurodense recipes lists them."


def test_files(tmp_path):
    path = tmp_path / "ü mine.toml"
    path.write_text(text('keep = "last"'), encoding="utf-8")
    assert load_recipe(path).keep == load_recipe(str(path)).keep == "last"
    path.write_text("\ufeff" + text('keep = "last"').lstrip(), encoding="utf-8")  # as Windows' Notepad saves
    assert load_recipe(path).keep == "last"
    path.write_text(text("dropot = 1"), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.message


def test_files_that_cannot_be_read(tmp_path):
    def message(path):
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        assert caught.value.hint == "neurodense recipes lists the built-in ones."
        return caught.value.message

    assert message(tmp_path / "none.toml") == f"{tmp_path / 'none.toml'} cannot be read: No such file or directory."
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml cannot be read: " in message(tmp_path / "folder.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    assert "latin.toml cannot be read: 'utf-8' codec" in message(tmp_path / "latin.toml")


def test_the_rooms_without_torch_import_without_torch():
    modules = [
        "neurodense", "neurodense.scans.preprocess", "neurodense.data.split", "neurodense.training.recipe",
        "neurodense.inference.predictor", "neurodense.screen", "neurodense.versions",
    ]  # fmt: skip
    program = (
        f"import sys, {', '.join(modules)}\n"
        "neurodense.training.recipe.load_recipe('notebook')\n"
        "print(*sorted({'torch', 'torchvision', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
