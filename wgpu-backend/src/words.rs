//! Elements as the 32-bit words of a storage buffer, and back.

use tokenloss_core::{Dtype, Element};

/// Elements of a row on the device, so that every row starts on a group of four words.
pub(crate) fn padded_stride(vocab: usize, dtype: Dtype) -> usize {
    vocab.next_multiple_of(16 / dtype.bytes())
}

/// Writes a row; words behind its last element are left.
pub(crate) fn write<E: Element>(row: &[E], words: &mut [u32]) {
    let in_word = 4 / E::DTYPE.bytes();
    for (word, elements) in words.iter_mut().zip(row.chunks(in_word)) {
        *word = elements.iter().rev().fold(0, |word, element| word << 16 | element.to_bits());
    }
}

/// Rows `stride` elements apart, padded with 0.
pub(crate) fn of_rows<'a, E: Element>(
    rows: impl ExactSizeIterator<Item = &'a [E]>,
    stride: usize,
) -> Vec<u32> {
    let per_row = stride * E::DTYPE.bytes() / 4;
    let mut words = vec![0; rows.len() * per_row];
    for (into, row) in words.chunks_exact_mut(per_row).zip(rows) {
        write(row, into);
    }
    words
}

/// Reads a row.
pub(crate) fn read<E: Element>(words: &[u32], row: &mut [E]) {
    let in_word = 4 / E::DTYPE.bytes();
    for (word, elements) in words.iter().zip(row.chunks_mut(in_word)) {
        for (i, element) in elements.iter_mut().enumerate() {
            *element = E::from_bits(word >> (16 * i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenloss_core::half::{bf16, f16};

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
