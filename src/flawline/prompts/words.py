"""`words`: a hand-written ensemble and no training. What every learned prompt has to beat.

The sentences are WinCLIP's (Jeong et al., CVPR 2023, section 4.1 and supplement A); unlike WinCLIP the map is read
from patch features of the chosen image path, not from windows.
"""

from torch import Tensor

from flawline.prompts.shared.base import PromptMethod
from flawline.prompts.shared.sentences import ABNORMAL_STATES, NORMAL_STATES, prototypes, templates


class Words(PromptMethod):
    name = "words"
    fidelity = "baseline"
    score_formula = "p_image"

    def text_features(self, noun: str) -> Tensor:
        return prototypes(self.backbone, NORMAL_STATES, ABNORMAL_STATES, noun, templates())

    def words(self) -> dict[str, list[str]]:
        return {"normal": list(NORMAL_STATES), "abnormal": list(ABNORMAL_STATES), "templates": templates()}


Method = Words
