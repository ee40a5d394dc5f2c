use crate::{Error, IGNORE_INDEX, check_length};

/// The weight of each row from the weight of its target's class, and what their mean is divided by:
/// `classes [vocab], targets [rows] -> weights [rows], denominator`.
///
/// ```text
/// weights_i = classes[targets_i], 0 where a target is ignored        denominator = sum_i weights_i
/// ```
///
/// With the weights on the batch and [`Denominator::Given`](crate::Denominator::Given) it is PyTorch's
/// `CrossEntropyLoss(weight=..)`, whose mean divides by the sum of the weights, not by the number of rows.
///
/// # Errors
/// [`Error::Length`] for `weights`; [`Error::Input`] for the first class whose weight is negative or not finite;
/// [`Error::Target`]; [`Error::NoWeight`] if all rows are ignored or of weight 0, where PyTorch gives NaN.
///
/// ```
/// use tokenloss_core::{Batch, Denominator, IGNORE_INDEX, Reduction, Shape, sample::class_weights};
/// let targets = [2, IGNORE_INDEX, 0];
/// let mut weights = [0.0; 3];
/// let denominator = class_weights(&[1.0, 1.0, 0.25], &targets, &mut weights)?;
/// let batch = Batch::new(Shape::new(3, 3)?, &targets)?.with_weights(&weights)?;
/// let reduction = Reduction::Mean(Denominator::Given(denominator));
/// assert_eq!((weights, denominator), ([0.25, 0.0, 1.0], 1.25));
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
pub fn class_weights(classes: &[f32], targets: &[i32], weights: &mut [f32]) -> Result<f64, Error> {
    check_length("weights", targets.len(), weights.len())?;
    if let Some(index) = classes.iter().position(|weight| !(*weight >= 0.0 && weight.is_finite())) {
        let expected = "a finite number of at least 0";
        return Err(Error::Input { what: "classes", index, value: f64::from(classes[index]), expected });
    }
    let vocab = classes.len();
    if vocab < 2 {
        return Err(Error::Vocab { vocab });
    }
    let mut denominator = 0.0;
    for (row, (weight, &target)) in weights.iter_mut().zip(targets).enumerate() {
        *weight = match usize::try_from(target) {
            _ if target == IGNORE_INDEX => 0.0,
            Ok(class) if class < vocab => classes[class],
            _ => return Err(Error::Target { row, target, vocab }),
        };
        denominator += f64::from(*weight);
    }
    if denominator == 0.0 { Err(Error::NoWeight { what: "weights" }) } else { Ok(denominator) }
}
