"""APT, adaptive prompt tuning with semantic alignment (arXiv 2508.16157), the successor of Human-Free.

Reconstruction: only the abstract and the first lines of the introduction could be read. FACT: good images only;
self-generated anomalies from diverse noise perturbations train the prompts; a self-optimising meta-prompt guiding
scheme (SMGS) aligns them, round by round, with general anomaly semantics, so that they do not overfit the noises.
CHOICE: everything else: compound prompts, what a round draws (flawline.tune.rounds), the alignment loss, the
projection, and when the meta-prompt moves: only where it judges noises better that the round did not use.

Dimensions: M shared tokens, Q own tokens, A abnormal prompts, W text width, D joint.
"""

from itertools import cycle, islice
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from flawline.clip.backbone import Backbone
from flawline.clip.text_path import PromptTemplate, embed, encode_prompts, fill
from flawline.determinism import derived_seed
from flawline.prompts.shared.base import OBJECT, TuningStage
from flawline.prompts.shared.batches import Batch, Prediction
from flawline.prompts.shared.meta import GuidedOptions, MetaGuided, Teachers, semantic_distance, started
from flawline.prompts.shared.sentences import GENERAL_ABNORMAL, GENERAL_NORMAL
from flawline.tune.loop import TuningData
from flawline.tune.losses import shared_losses, total
from flawline.tune.rounds import EMBEDDING, Round, draw_round, in_turn, noises_of, pick

# Where the contexts start: general states, no defect nouns. In the compound form the shared words must fit both.
NORMAL_START = {"compound": "a photo of a", "independent": "a flawless"}
ABNORMAL_START = {
    "compound": ("damaged", "abnormal", "flawed", "defective"),
    "independent": ("a damaged", "an abnormal", "a flawed", "a defective"),
}


class AptOptions(GuidedOptions):
    """Options of APT; see docs/params.md.

    Attributes:
        form: `compound`: abnormal prompts are the shared normal context and own tokens, `[N×M][A×Q] object.`;
            `independent`: a context of M own tokens each.
        normal_tokens: M. abnormal_tokens: Q, of the compound form. abnormal_prompts: A.
        start: contexts start at general state `words`, or at `random`.
        rounds: R of SMGS, each a tuning stage. steps: of a round.
        first_noise: the noise that the first round uses alone, where there is such; null: as every round.
        held_out: share of the noises that a round leaves out to judge the meta-prompt by, at least one; 0: none,
            and the meta-prompt never moves.
        judged: anomalous images that judge it, drawn evenly from those noises, and as many good ones.
        meta_momentum: mu of the candidate normalise(mu·m + (1 - mu)·t); 1: the meta-prompt is static.
        kl_weight, semantic_weight: of the two parts of the alignment loss.
        embedding_noise: whether noise on patch features joins the noises of the images.
        embedding_strengths: its length relative to a feature's, one of which is drawn.
    """

    form: Literal["compound", "independent"] = "compound"
    normal_tokens: Annotated[int, Field(ge=1, le=64)] = 8
    abnormal_tokens: Annotated[int, Field(ge=1, le=64)] = 4
    abnormal_prompts: Annotated[int, Field(ge=1, le=32)] = 4
    start: Literal["words", "random"] = "words"
    rounds: Annotated[int, Field(ge=1)] = 5
    steps: Annotated[int, Field(ge=1)] = 200
    batch: Annotated[int, Field(ge=2)] = 8
    first_noise: str | None = "gaussian"
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.25
    judged: Annotated[int, Field(ge=1)] = 64
    meta_momentum: Annotated[float, Field(ge=0, le=1)] = 0.8
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    semantic_weight: Annotated[float, Field(ge=0)] = 1.0
    embedding_noise: bool = False
    embedding_strengths: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = Field(
        default=[0.25, 0.5, 1.0]
    )


class Apt(MetaGuided):
    name = "apt"
    fidelity = "reconstruction"
    score_formula = "(p_image + max of map) / 2"
    Options = AptOptions
    options: AptOptions

    def __init__(self, backbone: Backbone, options: AptOptions, seed: int) -> None:
        super().__init__(backbone, options, seed)
        generator = torch.Generator().manual_seed(seed)
        o, by_words = options, options.start == "words"
        phrases = list(islice(cycle(ABNORMAL_START[o.form]), o.abnormal_prompts))
        own = o.abnormal_tokens if o.form == "compound" else o.normal_tokens
        normal = started(backbone, o.normal_tokens, [NORMAL_START[o.form]], generator, by_words)[0]
        abnormal = started(backbone, own, phrases, generator, by_words)
        self.contexts = nn.ParameterDict({"normal": nn.Parameter(normal), "abnormal": nn.Parameter(abnormal)})
        self.records: list[dict[str, Any]] = []  # what each round drew and decided, for the card
        self._round: Round | None = None

    def text_features(self, noun: str) -> Tensor:
        """Good: normalise(enc); defective: the normalised mean of the unit features of the A prompts."""
        normal, abnormal = self.contexts["normal"], self.contexts["abnormal"]
        prompts = [(normal[None], self.options.normal_tokens), (abnormal, abnormal.shape[1])]
        if self.options.form == "compound":
            compound = torch.cat([normal.expand(len(abnormal), -1, -1), abnormal], 1)
            prompts[1] = (compound, compound.shape[1])
        filled, ends = [], []
        for tokens, count in prompts:
            template = PromptTemplate.context(count, f"{noun}.").tokenize(self.backbone)
            base = embed(self.backbone, template.ids).expand(len(tokens), -1, -1)
            filled.append(fill(base, template.slots, tokens))
            ends += [template.eot] * len(tokens)
        unit = F.normalize(encode_prompts(self.backbone, torch.cat(filled), torch.tensor(ends)), dim=-1)
        return torch.stack([unit[0], F.normalize(unit[1:].mean(0), dim=-1)])

    def stages(self) -> list[TuningStage]:
        """One stage a round: an epoch of `steps` steps over the rows that `before_stage` picks."""
        o = self.options
        return [
            TuningStage(
                name=f"round-{number}",
                trains=("contexts.",),
                epochs=1,
                batch=o.batch,
                learning_rate=o.learning_rate,
                losses=self.task_losses(),
                guidance=o.guidance,
                guidance_weight=o.guidance_weight,
            )
            for number in range(1, o.rounds + 1)
        ]

    def guide_loss(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The alignment: KL(meta-prompt ‖ prompts) and the distance of the text features to the meta-prompt's."""
        o = self.options
        apart = semantic_distance(prediction.text, self.taught(batch))
        return o.kl_weight * super().guide_loss(batch, prediction) + o.semantic_weight * apart

    def before_stage(self, stage: TuningStage, data: TuningData) -> TuningData:
        """Diversify: draw the round's noises and its rows."""
        o, number = self.options, self._number(stage)
        present = noises_of(data) + ([EMBEDDING] if o.embedding_noise else [])
        seed = derived_seed(self.name, self.seed, number)
        self._round = draw_round(present, o.held_out, seed, o.first_noise if number == 1 else None)
        count = o.steps * max(1, stage.batch // 2)
        return pick(data, self._round.noises, count, seed, tuple(o.embedding_strengths))

    @torch.no_grad()
    def after_stage(self, stage: TuningStage, data: TuningData) -> None:
        """Self-optimise: the meta-prompt moves towards the prompts if that lowers the synthetic loss on noises that
        the round did not use."""
        assert self._round is not None, "before_stage comes first"
        drawn, number, o = self._round, self._number(stage), self.options
        record: dict[str, Any] = {
            "round": number,
            "noises": {name: round(chance, 6) for name, chance in drawn.noises.items()},
            "held_out": list(drawn.held_out),
            "moved": False,
        }
        if drawn.held_out and o.meta_momentum < 1:
            evenly = dict.fromkeys(drawn.held_out, 1.0)
            seed = derived_seed(self.name, self.seed, number, "judge")
            judge = pick(data, evenly, o.judged, seed, tuple(o.embedding_strengths), good_rows=o.judged)
            for noun in {self.noun_of(words) for words in data.inputs.nouns} or {OBJECT}:
                self.teacher(noun)
            candidate = self.moved(o.meta_momentum)
            before = self.synthetic_loss(judge, self.teachers, stage)
            after = self.synthetic_loss(judge, candidate, stage)
            if after < before:
                self.teachers = candidate
            record |= {"loss": before, "candidate": after, "moved": after < before}
        self.records = [*self.records[: number - 1], record]

    def synthetic_loss(self, data: TuningData, teachers: Teachers, stage: TuningStage) -> float:
        """The stage's task loss where the meta-prompt itself classifies, the mean over all rows of `data`."""
        summed = 0.0
        for batch in in_turn(data, 16):
            prediction = self.compare(batch.cls, batch.patches, self.taught(batch, teachers))
            terms = shared_losses(set(stage.losses), batch, prediction) | self.own_losses(batch, prediction)
            summed += total(stage.losses, terms).item() * len(batch.labels)
        return summed / len(data.labels)

    def _number(self, stage: TuningStage) -> int:
        return int(stage.name.removeprefix("round-"))

    def learned_tokens(self) -> dict[str, Tensor]:
        abnormal = self.contexts["abnormal"].detach()
        return {
            "normal": self.contexts["normal"].detach(),
            **{f"abnormal {k}": own for k, own in enumerate(abnormal, 1)},
        }

    def words(self) -> dict[str, Any]:
        o = self.options
        own = f"[N]×{o.normal_tokens} [A]×{o.abnormal_tokens}"
        return {
            "normal": [f"[N]×{o.normal_tokens} {{noun}}."],
            "abnormal": [f"{own if o.form == 'compound' else f'[A]×{o.normal_tokens}'} {{noun}}."],
            "meta_normal": list(GENERAL_NORMAL),
            "meta_abnormal": list(GENERAL_ABNORMAL),
            "rounds": self.records,
        }


Method = Apt
