//! A row and its labels.

use super::summarise;
use crate::Error;
use crate::label::{Class, ClassLink, EntryEval, LabelObjective};
use crate::objective::cast;
use num_traits::Float;

/// The classes of a row.
///
/// # Errors
/// [`Error::NonFinite`] and, over the softmax, [`Error::NoMass`], with row 0.
pub fn classes<T: Float>(
    link: ClassLink,
    logits: &[T],
) -> Result<impl Iterator<Item = Class<T>> + '_, Error> {
    let (max, ln_mass) = match summarise(logits, 0) {
        Ok(row) => (row.stats.max, row.stats.tail.ln_1p()),
        Err(Error::NoMass { .. }) if link == ClassLink::Sigmoid => (T::zero(), T::zero()),
        Err(error) => return Err(error),
    };
    Ok(logits.iter().map(move |&z| match link {
        ClassLink::Softmax => Class::softmax((z - max) - ln_mass),
        ClassLink::Sigmoid => Class::sigmoid(z),
    }))
}

/// The loss of one row, and its gradient times `factor`, overwritten.
///
/// # Errors
/// Those of [`classes`], and [`Error::Label`] with row 0.
pub fn labels<T: Float, O: LabelObjective>(
    objective: &O,
    logits: &[T],
    labels: &[T],
    class_weights: Option<&[T]>,
    factor: T,
    dlogits: &mut [T],
) -> Result<T, Error> {
    let link = objective.link();
    let [min, max] = objective.domain();
    let top = match link {
        ClassLink::Softmax => Some(summarise(logits, 0)?.stats.argmax as usize),
        ClassLink::Sigmoid => None,
    };
    let (mut loss, mut others) = (T::zero(), T::zero());
    for (column, class) in classes(link, logits)?.enumerate() {
        let label = labels[column];
        let weight = class_weights.map_or(T::one(), |weights| weights[column]);
        let EntryEval { value, pull } = objective.of_class(&class, label);
        let wrong = |min, max| {
            let label = label.to_f32().unwrap_or(f32::NAN);
            Err(Error::Label { row: 0, column, label, min, max })
        };
        if !(label >= cast(min) && label <= cast(max)) {
            return wrong(min, max);
        }
        if !value.is_finite() {
            return wrong(0.0, 0.0);
        }
        loss = loss + weight * value;
        dlogits[column] = weight * pull;
        if top != Some(column) {
            others = others + weight * pull;
        }
    }
    let of_top = top.map_or(T::zero(), |top| dlogits[top]);
    for ((column, class), d) in classes(link, logits)?.enumerate().zip(dlogits) {
        let gradient = match link {
            // `pull - p (pull + others)` by what is left of p: a confident row keeps its gradient.
            ClassLink::Softmax if top == Some(column) => *d * class.rest - class.p * others,
            ClassLink::Softmax => *d - class.p * (of_top + others),
            ClassLink::Sigmoid => *d,
        };
        *d = factor * gradient;
    }
    Ok(loss)
}
