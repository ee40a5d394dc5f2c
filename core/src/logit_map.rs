//! What logits are taken for before anything is made of them.

use crate::objective::cast;
use crate::{Error, check_length};
use num_traits::Float;

/// A function of each logit by itself, which keeps their order.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Link {
    /// The logit itself.
    #[default]
    Identity,
    /// `cap tanh(z / cap)`: bounds logits by `cap` in size (Gemma 2, arXiv 2408.00118).
    Softcap {
        /// The bound, positive.
        cap: f32,
    },
    /// `sign(z) ln(1 + |z|)`: the softmax of that is StableMax, `s(z_j) / sum_k s(z_k)` with `s(z) = z + 1` from 0 on and
    /// `1 / (1 - z)` below (arXiv 2501.04697).
    StableMax,
}

impl Link {
    /// The function. NaN and the infinities stay what they are: a mask and a fault must not become numbers.
    pub fn of<T: Float>(self, z: T) -> T {
        match self {
            Self::Softcap { cap } if z.is_finite() => cast::<T>(cap) * (z / cast(cap)).tanh(),
            Self::StableMax if z.is_finite() => z.abs().ln_1p().copysign(z),
            _ => z,
        }
    }

    /// Its derivative. From the logit, since from a value near the cap it would cancel.
    pub fn derivative<T: Float>(self, z: T) -> T {
        let one = T::one();
        match self {
            Self::Identity => one,
            Self::Softcap { cap } => {
                // 1 - tanh^2, for which there is a form without a difference.
                let x = (z / cast(cap)).abs();
                let e = (-(x + x)).exp();
                let root = one + e;
                (e + e + e + e) / (root * root)
            }
            Self::StableMax => one / (one + z.abs()),
        }
    }
}

/// Which classes a row may choose from: bit `j % 32` of word `j / 32`, from the lowest, is class `j`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMask<'a> {
    words: &'a [u32],
    per_row: bool,
}

impl<'a> ClassMask<'a> {
    /// `words [ceil(vocab / 32)]`, the same for every row. Bits from the vocab on are not looked at.
    pub fn shared(words: &'a [u32]) -> Self {
        Self { words, per_row: false }
    }

    /// `words [rows, ceil(vocab / 32)]`.
    pub fn per_row(words: &'a [u32]) -> Self {
        Self { words, per_row: true }
    }

    /// All words, and whether each row has its own.
    pub fn words(&self) -> (&'a [u32], bool) {
        (self.words, self.per_row)
    }
}

/// What logits are taken for. Losses, summaries and outputs are those of the mapped logits; gradients are those of the
/// logits themselves.
///
/// ```text
/// z'_j = scale (link(z_j) - margin [j = t])        -infinity where class j is masked
/// dL/dz_j = scale link'(z_j) dL/dz'_j              0 where class j is masked
/// ```
///
/// Scale and margin are one number or one for each row.
///
/// * **Temperature** T is a scale of 1 / T.
/// * **Label-distributionally robust loss** (LDR-KL, Zhu, Ying and Yang 2023): nll with a scale of `1 / lambda`, a margin of c
///   and row weights of lambda, less the constant `lambda log vocab`. For lambdas that adapt see [`aldr_lambda`].
/// * **Mixed bounds** (interval bound propagation, arXiv 1810.12715): the logits' upper bounds, with a margin for each row of
///   upper less lower bound of its target; the gradient of the target's logit is that of its lower bound.
///
/// ```
/// use tokenloss_core::{Batch, LogitMap, Shape};
///
/// let targets = [0];
/// let map = LogitMap::softcap(30.0)?.with_scale(0.5)?;
/// let batch = Batch::new(Shape::new(1, 3)?, &targets)?.with_map(map)?;
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitMap<'a> {
    link: Link,
    scale: f32,
    scales: Option<&'a [f32]>,
    margin: f32,
    margins: Option<&'a [f32]>,
    mask: Option<ClassMask<'a>>,
}

impl Default for LogitMap<'_> {
    fn default() -> Self {
        Self { link: Link::Identity, scale: 1.0, scales: None, margin: 0.0, margins: None, mask: None }
    }
}

const POSITIVE: &str = "a positive normal number";
const FINITE: &str = "a finite number";

fn check_positive(what: &'static str, index: usize, value: f32) -> Result<(), Error> {
    if value >= f32::MIN_POSITIVE && value.is_finite() {
        return Ok(());
    }
    Err(Error::Input { what, index, value: value.into(), expected: POSITIVE })
}

fn check_finite(what: &'static str, index: usize, value: f32) -> Result<(), Error> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::Input { what, index, value: value.into(), expected: FINITE })
}

impl<'a> LogitMap<'a> {
    /// Logits bounded by `cap`.
    ///
    /// # Errors
    /// [`Error::Input`] if `cap` is not a positive normal number.
    pub fn softcap(cap: f32) -> Result<Self, Error> {
        check_positive("cap", 0, cap)?;
        Ok(Self { link: Link::Softcap { cap }, ..Self::default() })
    }

    /// Logits whose softmax is StableMax.
    pub fn stable_max() -> Self {
        Self { link: Link::StableMax, ..Self::default() }
    }

    /// All rows times `scale`, after the link.
    ///
    /// # Errors
    /// [`Error::Input`] if it is not a positive normal number.
    pub fn with_scale(self, scale: f32) -> Result<Self, Error> {
        check_positive("scale", 0, scale)?;
        Ok(Self { scale, scales: None, ..self })
    }

    /// Each row times its own, `scales [rows]`.
    ///
    /// # Errors
    /// [`Error::Input`] for the first that is not a positive normal number. [`Batch::with_map`](crate::Batch::with_map)
    /// checks their number.
    pub fn with_scales(self, scales: &'a [f32]) -> Result<Self, Error> {
        scales.iter().enumerate().try_for_each(|(row, scale)| check_positive("scales", row, *scale))?;
        Ok(Self { scales: Some(scales), ..self })
    }

    /// `margin` off the target's logit, after the link and before the scale.
    ///
    /// # Errors
    /// [`Error::Input`] if it is not finite.
    pub fn with_margin(self, margin: f32) -> Result<Self, Error> {
        check_finite("margin", 0, margin)?;
        Ok(Self { margin, margins: None, ..self })
    }

    /// Each row with its own, `margins [rows]`.
    ///
    /// # Errors
    /// [`Error::Input`] for the first that is not finite. [`Batch::with_map`](crate::Batch::with_map) checks their number.
    pub fn with_margins(self, margins: &'a [f32]) -> Result<Self, Error> {
        margins.iter().enumerate().try_for_each(|(row, margin)| check_finite("margins", row, *margin))?;
        Ok(Self { margins: Some(margins), ..self })
    }

    /// Only some classes.
    pub fn with_mask(self, mask: ClassMask<'a>) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// The link.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// `scales [rows]`, if rows have their own.
    pub const fn scales(&self) -> Option<&'a [f32]> {
        self.scales
    }

    /// `margins [rows]`, if rows have their own.
    pub const fn margins(&self) -> Option<&'a [f32]> {
        self.margins
    }

    /// The mask, if there is one.
    pub const fn mask(&self) -> Option<ClassMask<'a>> {
        self.mask
    }

    /// What the logits of one row are taken for.
    pub fn row(&self, row: usize, vocab: usize) -> RowMap<'a> {
        let words = vocab.div_ceil(32);
        let mask = self.mask.map(|mask| {
            let first = if mask.per_row { row * words } else { 0 };
            &mask.words[first..first + words]
        });
        RowMap {
            link: self.link,
            scale: self.scales.map_or(self.scale, |scales| scales[row]),
            margin: self.margins.map_or(self.margin, |margins| margins[row]),
            mask,
        }
    }

    /// The same for some of the rows.
    #[cfg(feature = "alloc")]
    pub(crate) fn rows(self, rows: core::ops::Range<usize>, vocab: usize) -> Self {
        let words = vocab.div_ceil(32);
        let mask = |mask: ClassMask<'a>| match mask.per_row {
            true => ClassMask { words: &mask.words[rows.start * words..rows.end * words], ..mask },
            false => mask,
        };
        Self {
            mask: self.mask.map(mask),
            scales: self.scales.map(|scales| &scales[rows.clone()]),
            margins: self.margins.map(|margins| &margins[rows.clone()]),
            ..self
        }
    }

    /// Checks every slice against the batch, and that no target is masked.
    pub(crate) fn check(&self, targets: &[i32], vocab: usize) -> Result<(), Error> {
        let rows = targets.len();
        if let Some(scales) = self.scales {
            check_length("scales", rows, scales.len())?;
        }
        if let Some(margins) = self.margins {
            check_length("margins", rows, margins.len())?;
        }
        if let Some(ClassMask { words, per_row }) = self.mask {
            let each = vocab.div_ceil(32);
            check_length("mask", if per_row { rows * each } else { each }, words.len())?;
            for (row, &target) in targets.iter().enumerate() {
                if usize::try_from(target).is_ok_and(|target| !self.row(row, vocab).allows(target)) {
                    return Err(Error::MaskedTarget { row, target });
                }
            }
        }
        Ok(())
    }
}

/// The lambda that a row of ALDR-KL takes next: small where the model is sure, which trusts the label more.
///
/// ```text
/// lambda' = lambda0 (1 - KL(p || uniform) / (alpha log count))        KL(p || uniform) = log count - H
/// ```
///
/// at least `lambda0 / 1000`. The summary is that of the row at its current lambda, a scale of `1 / lambda`, and needs
/// [`Detail::Moments`](crate::Detail::Moments). The lambda is held: no gradient flows through it.
///
/// **Domain.** `lambda0 > 0`; `alpha >= 1`, at which a row that is sure reaches the least lambda.
///
/// # Errors
/// [`Error::Input`] for `lambda0` or `alpha` outside its domain.
///
/// **Source.** Zhu, Ying and Yang 2023 (ICML), ALDR-KL. Their code divides the scores by the mean of their sizes first, and
/// the loss has the term `-(alpha log count / 2 lambda0) (lambda - lambda0)^2`, which has no gradient by the logits.
pub fn aldr_lambda<T: Float>(summary: &crate::RowSummary<T>, lambda0: f32, alpha: f32) -> Result<T, Error> {
    check_positive("lambda0", 0, lambda0)?;
    if !(alpha >= 1.0 && alpha.is_finite()) {
        let expected = "a finite number of at least 1";
        return Err(Error::Input { what: "alpha", index: 0, value: alpha.into(), expected });
    }
    let most = summary.stats.counted().ln();
    let share = if most > T::zero() { (most - summary.stats.entropy()) / most } else { T::one() };
    Ok(cast::<T>(lambda0) * (T::one() - share / cast(alpha)).max(cast(1e-3)))
}

/// What the logits of one row are taken for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowMap<'a> {
    /// First, the link.
    pub link: Link,
    /// Last, a factor.
    pub scale: f32,
    /// Between them, off the target's logit.
    pub margin: f32,
    /// `[ceil(vocab / 32)]`; `None` allows every class.
    pub mask: Option<&'a [u32]>,
}

impl RowMap<'_> {
    /// Whether a class is not masked.
    #[inline]
    pub fn allows(&self, column: usize) -> bool {
        self.mask.is_none_or(|words| words[column / 32] >> (column % 32) & 1 == 1)
    }

    /// What the logit in a column is taken for.
    pub fn of<T: Float>(&self, logit: T, column: usize, target: usize) -> T {
        if !self.allows(column) {
            return T::neg_infinity();
        }
        let margin = if column == target { cast(self.margin) } else { T::zero() };
        (self.link.of(logit) - margin) * cast(self.scale)
    }

    /// The derivative of that by the logit.
    pub fn derivative<T: Float>(&self, logit: T) -> T {
        self.link.derivative(logit) * cast(self.scale)
    }
}
