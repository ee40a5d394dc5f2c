//! Reading listed logits and writing what takes their place.

use tokenloss_core::columns::*;
use tokenloss_core::half::{bf16, f16};
use tokenloss_core::{Batch, Element, IGNORE_INDEX, Linear, LinearGradients, Segments, Shape};

const PAD: i32 = IGNORE_INDEX;

#[test]
fn lists_of_one_length_and_of_many() {
    let shape = Shape::new(3, 10).unwrap();
    let ids = [7, 2, 4, PAD, PAD, PAD];
    let columns = Columns::new(shape, 2, &ids).unwrap();
    assert_eq!([0, 1, 2].map(|row| columns.of_row(row)), [&[7, 2][..], &[4], &[]]);
    assert_eq!([0, 1, 2].map(|row| columns.range(row)), [0..2, 2..3, 4..4]);
    assert_eq!((columns.rows(), columns.entries(), columns.are_alone()), (3, 6, false));
    assert!(columns.alone().are_alone());

    let offsets = [0, 3, 4, 6];
    let ids = [9, 0, 5, 3, 3, 1];
    let segments = Segments::new(&offsets, 6).unwrap();
    let columns = Columns::of_segments(shape, segments, &ids).unwrap();
    assert_eq!([0, 1, 2].map(|row| columns.of_row(row)), [&[9, 0, 5][..], &[3], &[3, 1]]);
}

fn there_and_back<E: Element + PartialEq>() {
    let targets = [0, IGNORE_INDEX, 2];
    let shape = Shape::new(3, 4).unwrap().with_stride(5).unwrap();
    let batch = Batch::new(shape, &targets).unwrap();
    let ids = [3, 0, 1, 2, 2, PAD];
    let columns = Columns::new(Shape::new(3, 4).unwrap(), 2, &ids).unwrap();
    let before: Vec<E> = (0..15).map(|i| E::from_f32(0.3 * i as f32 - 1.0)).collect();
    let mut logits = before.clone();
    let (mut read, mut gathered) = ([0.0; 6], [0.0; 6]);
    gather(&batch, &columns, &logits, &mut read).unwrap();
    take(&batch, &columns, &mut logits, &mut gathered).unwrap();
    for (place, from) in [(0, 3), (1, 0), (4, 12)] {
        assert_eq!(gathered[place], f64::from(before[from].to_f32()));
    }
    assert!([2, 3, 5].into_iter().all(|place| gathered[place].is_nan()));
    assert_eq!(read.map(f64::to_bits), gathered.map(f64::to_bits));
    // Masks where listed, of rows that take part alone, and nothing else is touched.
    for (at, (now, before)) in logits.iter().zip(&before).enumerate() {
        let masked = [0, 3, 12].contains(&at);
        assert_eq!(now.to_f32(), if masked { f32::NEG_INFINITY } else { before.to_f32() }, "{at}");
    }
    put(&batch, &columns, &mut logits, &gathered).unwrap();
    assert!(logits == before);
}

#[test]
fn taken_logits_come_back_bit_for_bit() {
    there_and_back::<f32>();
    there_and_back::<f16>();
    there_and_back::<bf16>();
}

#[test]
fn the_linear_form_of_the_listed_columns() {
    let (rows, vocab, dim) = (3, 4, 2);
    let targets = [0, IGNORE_INDEX, 2];
    let batch = Batch::new(Shape::new(rows, vocab).unwrap(), &targets).unwrap();
    let hidden = [1.0f32, 2.0, f32::NAN, f32::NAN, -1.0, 0.5];
    let weight = [0.5f32, 1.0, -1.0, 2.0, 0.0, 3.0, 4.0, -2.0];
    let bias = [0.0f32, 0.25, 0.5, 0.75];
    let linear = Linear::new(batch, dim, &hidden, &weight).unwrap().with_bias(&bias).unwrap();
    let ids = [3, 0, 1, 2, 2, PAD];
    let columns = Columns::new(Shape::new(rows, vocab).unwrap(), 2, &ids).unwrap();
    let mut gathered = [0.0; 6];
    gather_linear(&linear, &columns, &mut gathered).unwrap();
    assert_eq!((gathered[0], gathered[1], gathered[4]), (0.75, 2.5, 2.0));
    assert!([2, 3, 5].into_iter().all(|place| gathered[place].is_nan()));

    let d = [2.0, -1.0, 9.0, 9.0, 0.5, 9.0];
    let (mut dhidden, mut dweight, mut dbias) = ([f32::NAN; 6], [1.0f32; 8], [1.0f32; 4]);
    let gradients = LinearGradients {
        dhidden: Some(&mut dhidden[..]),
        dweight: Some(&mut dweight),
        dbias: Some(&mut dbias),
    };
    put_linear(&linear, &columns, &d, gradients).unwrap();
    assert_eq!(dhidden, [7.5, -5.0, 0.0, 0.0, 0.0, 1.5]);
    assert_eq!(dweight, [0.0, -1.0, 1.0, 1.0, 0.5, 1.25, 3.0, 5.0]);
    assert_eq!(dbias, [0.0, 1.0, 1.5, 3.0]);
}
