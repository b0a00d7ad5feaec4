"""An encoder and a head: the one classifier for pictures, for texts and for both."""

from torch import Tensor, nn

from mmutils.models.encoder import Standardise


class Classifier(nn.Module):
    """Logits (B, K) of a batch, in float32 also where the encoder runs in lower precision.

    An encoder with a method `head(classes)`, as a FusedEncoder, brings its own head. Otherwise the features are
    standardised, since encoders differ in scale, and pass a linear layer, after a hidden one if `hidden` is not 0.

    Args:
        classes: K, at least 2; hidden: units of the hidden layer; dropout: behind it. ValueError where they do not fit.
    """

    def __init__(self, encoder: nn.Module, classes: int, hidden: int = 0, dropout: float = 0.3):
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes={classes}: a classifier needs at least 2")
        self.encoder = encoder
        if not hasattr(encoder, "head"):
            layers = [nn.Linear(encoder.dim, hidden), nn.ReLU(), nn.Dropout(dropout)] if hidden else []
            self.head = nn.Sequential(Standardise(encoder.dim), *layers, nn.Linear(hidden or encoder.dim, classes))
        elif hidden:
            raise ValueError(f"hidden={hidden}: a {type(encoder).__name__} brings its own head; leave hidden at 0")
        else:
            self.head = encoder.head(classes)

    def forward(self, batch: dict) -> Tensor:
        return self.head(self.encoder(batch).float())
