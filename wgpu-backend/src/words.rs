//! Elements as the 32-bit words of a storage buffer, and back.

use std::any::Any;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Dtype, Element};

/// Elements of a row on the device, so that every row starts on a group of four words.
pub(crate) fn padded_stride(vocab: usize, dtype: Dtype) -> usize {
    vocab.next_multiple_of(16 / dtype.bytes())
}

/// Writes a row; words behind its last element are left.
pub(crate) fn write<E: Element>(row: &[E], words: &mut [u32]) {
    if E::DTYPE == Dtype::F32 {
        for (word, element) in words.iter_mut().zip(row) {
            *word = element.to_f32().to_bits();
        }
        return;
    }
    for (word, pair) in words.iter_mut().zip(row.chunks(2)) {
        let high = pair.get(1).map_or(0, |high| half_bits(*high));
        *word = u32::from(half_bits(pair[0])) | u32::from(high) << 16;
    }
}

/// Reads a row.
pub(crate) fn read<E: Element>(words: &[u32], row: &mut [E]) {
    if E::DTYPE == Dtype::F32 {
        for (word, element) in words.iter().zip(row) {
            *element = E::from_f32(f32::from_bits(*word));
        }
        return;
    }
    for (word, pair) in words.iter().zip(row.chunks_mut(2)) {
        for (element, bits) in pair.iter_mut().zip([*word as u16, (*word >> 16) as u16]) {
            *element = of_half_bits(bits);
        }
    }
}

// `Element` is sealed: what is not f32 is one of the two.
fn half_bits<E: Element>(element: E) -> u16 {
    let any: &dyn Any = &element;
    match any.downcast_ref::<f16>() {
        Some(half) => half.to_bits(),
        None => any.downcast_ref::<bf16>().map_or(0, |half| half.to_bits()),
    }
}

fn of_half_bits<E: Element>(bits: u16) -> E {
    let (f16, bf16): (&dyn Any, &dyn Any) = (&f16::from_bits(bits), &bf16::from_bits(bits));
    let same = f16.downcast_ref::<E>().or(bf16.downcast_ref::<E>());
    same.copied().unwrap_or_else(|| E::from_f32(f32::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_survive<E: Element + PartialEq>(of_bits: fn(u16) -> E) {
        for bits in 0..=u16::MAX {
            let row = [of_bits(bits), of_bits(!bits), of_bits(bits)];
            let (mut words, mut back) = ([7; 3], [of_bits(0); 3]);
            write(&row, &mut words);
            read(&words, &mut back);
            assert_eq!(row.map(|e| e.to_f32().to_bits()), back.map(|e| e.to_f32().to_bits()), "{bits:04x}");
            assert_eq!(words[2], 7, "the word behind the row");
        }
    }

    #[test]
    fn every_half_survives() {
        all_survive(f16::from_bits);
        all_survive(bf16::from_bits);
    }
}
