"""An encoder and a head: the one classifier for pictures, for text and for both."""

from torch import Tensor, nn

from mmutils.models.standardise import Standardise


class Classifier(nn.Module):
    """Logits (B, K) of a batch, in float32 whatever precision the encoder runs in.

    The head is the encoder's own where it has one (`encoder.head(classes)`: a fusion's). Otherwise features are
    standardised, since encoders differ in scale, and pass a linear layer, with `hidden` units before it if that is
    above 0. ValueError for fewer than 2 classes, or hidden units for an encoder with a head of its own.
    """

    def __init__(self, encoder: nn.Module, classes: int, hidden: int = 0, dropout: float = 0.3):
        super().__init__()
        own = getattr(encoder, "head", None)
        if classes < 2:
            raise ValueError(f"classes={classes}: a classifier needs at least 2")
        if own and hidden:
            raise ValueError(f"hidden={hidden}: a {type(encoder).__name__} brings its own head; leave hidden at 0")
        self.encoder = encoder
        self.head = own(classes) if own else multilayer_head(encoder.dim, classes, hidden, dropout)

    def forward(self, batch: dict) -> Tensor:
        return self.head(self.encoder(batch).float())


def multilayer_head(dim: int, classes: int, hidden: int, dropout: float) -> nn.Sequential:
    """Standardisation and a linear layer, from features (B, dim) to logits (B, K), with a hidden layer if asked for."""
    layers = [nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout)] if hidden else []
    return nn.Sequential(Standardise(dim), *layers, nn.Linear(hidden or dim, classes))
