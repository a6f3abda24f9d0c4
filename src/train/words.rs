//! The words that are true of an object, and the loss of scores against them.

use burn::tensor::{Tensor, activation::softplus};

use crate::{
    Error, Result,
    scene::{Scene, SceneObject},
    text::Tokenizer,
};

/// For each object of a scene its noun, its colour and the first word of its relation to the other.
///
/// # Errors
/// `bad_input` for a word outside the vocabulary.
pub fn words_of(scene: &Scene, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
    let id = |word: &str| {
        tokenizer.id(word).ok_or_else(|| Error::bad_input(format!("{word:?} is not in the vocabulary")))
    };
    let words = |(index, object): (usize, &SceneObject)| {
        let mut words = vec![id(&object.noun)?];
        if let Some(colour) = object.colour.or(object.natural_colour) {
            words.push(id(colour.name())?);
        }
        if let Some(relation) = scene.relation {
            let relation = if index == 0 { relation } else { relation.inverse() };
            words.extend(relation.name().split(' ').next().map(id).transpose()?);
        }
        Ok(words)
    };
    scene.objects.iter().enumerate().map(words).collect()
}

/// Binary cross-entropy of sigmoid(`scores`), summed over words and averaged over rows
/// (SigLIP, section 3.2).
///
/// # Shapes
/// - `scores`, `shown`: `[rows, vocab_size]`, `shown` 1 where the word is true
pub fn sigmoid_loss(scores: Tensor<2>, shown: Tensor<2>) -> Tensor<1> {
    let rows = scores.dims()[0] as f32;
    (softplus(scores.clone(), 1.0) - scores * shown).sum() / rows
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn sigmoid_loss_by_hand() {
        let device = Device::flex();
        let scores = Tensor::<2>::from_floats([[0.0, 2.0], [-1.0, 0.0]], &device);
        let shown = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let bce = |x: f32| (1.0 + x.exp()).ln();
        let expected = (bce(-0.0) + bce(2.0) + bce(-1.0) + bce(0.0)) / 2.0;
        let found = sigmoid_loss(scores, shown).into_scalar::<f32>();
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}
