//! A second row beside each row: a teacher's logits, or labels.

use crate::GpuError;
use crate::dispatch::Bound;
use crate::guide::GATHERED_BYTES;
use crate::job::Part;
use crate::plan::{Cut, Matrix};
use std::ops::Range;
use tokenloss_core::{Dtype, Error, Shape, check_length};
use tokenloss_shaders::{Params, binding};
use wgpu::BufferBinding;

/// The rows beside a request's logits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Second {
    /// None: [`encode`](crate::Kernels::encode).
    #[default]
    Nothing,
    /// A teacher's, whose divergence is taken: [`encode_pair`](crate::Kernels::encode_pair).
    Pair {
        /// The teacher's shape.
        shape: Shape,
        /// Its storage type.
        dtype: Dtype,
        /// Whether the divergences have a binding of the caller's.
        divergences: bool,
    },
    /// A teacher's, by which the rows are guided: [`encode_guided`](crate::Kernels::encode_guided).
    Guide {
        /// The teacher's shape.
        shape: Shape,
        /// Its storage type.
        dtype: Dtype,
    },
    /// Labels: [`encode_labels`](crate::Kernels::encode_labels).
    Labels {
        /// The labels' shape.
        shape: Shape,
        /// Their storage type.
        dtype: Dtype,
    },
}

impl Second {
    /// The rows, by what they are called.
    pub(crate) fn matrix(&self) -> Option<(&'static str, Shape, Dtype)> {
        match *self {
            Self::Nothing => None,
            Self::Pair { shape, dtype, .. } | Self::Guide { shape, dtype } => Some(("teacher", shape, dtype)),
            Self::Labels { shape, dtype } => Some(("labels", shape, dtype)),
        }
    }

    /// Checks their shape.
    pub(crate) fn check(&self, logits: Shape) -> Result<(), Error> {
        let Some((_, shape, _)) = self.matrix() else { return Ok(()) };
        let [rows, vocab] = match self {
            Self::Labels { .. } => ["label rows", "label vocab"],
            _ => ["teacher rows", "teacher vocab"],
        };
        check_length(rows, logits.rows(), shape.rows())?;
        check_length(vocab, logits.vocab(), shape.vocab())
    }

    /// Bytes of what a call creates of each row.
    pub(crate) fn row_bytes(&self) -> u64 {
        match self {
            Self::Pair { divergences: false, .. } => 4,
            Self::Guide { .. } => GATHERED_BYTES,
            Self::Nothing | Self::Pair { .. } | Self::Labels { .. } => 0,
        }
    }
}

/// The teacher's logits on the GPU. They are read only.
#[derive(Debug, Clone)]
pub struct TeacherData<'a> {
    /// The student's rows and vocabulary, and any stride.
    pub shape: Shape,
    /// The storage type, which may differ from the student's.
    pub dtype: Dtype,
    /// `[rows, stride]`.
    pub logits: BufferBinding<'a>,
}

/// The checked part of such rows.
pub(crate) struct SecondPart<'a> {
    pub(crate) part: Part<'a>,
    pub(crate) dtype: Dtype,
    shape: Shape,
}

impl<'a> SecondPart<'a> {
    pub(crate) fn of_teacher(student: Shape, teacher: &TeacherData<'a>) -> Result<Self, GpuError> {
        let TeacherData { shape, dtype, ref logits } = *teacher;
        Second::Guide { shape, dtype }.check(student)?;
        Self::new("teacher", shape, dtype, logits)
    }

    pub(crate) fn new(
        what: &'static str,
        shape: Shape,
        dtype: Dtype,
        rows: &BufferBinding<'a>,
    ) -> Result<Self, GpuError> {
        let bytes = Matrix::new(what, 0, shape, dtype).bytes(shape.rows());
        Ok(Self { part: Part::new(what, rows, bytes)?, dtype, shape })
    }

    /// What they take.
    pub(crate) fn matrix(&self) -> Matrix {
        Matrix::new(self.part.what, self.part.offset, self.shape, self.dtype)
    }

    /// The bindings of some rows.
    pub(crate) fn bind(
        &self,
        cut: &Cut,
        rows: &Range<usize>,
        params: &mut Params,
        bound: &mut Vec<Bound<'a>>,
    ) {
        let matrix = self.matrix();
        let (first, bytes) = (rows.start as u64 * matrix.row_bytes, matrix.bytes(rows.len()));
        let (part, into) = self.part.bound(cut, binding::TEACHER, first, bytes);
        bound.push(part);
        params.teacher_first = (into / self.dtype.bytes() as u64) as u32;
        params.teacher_stride = self.shape.stride() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::RECORD_BYTES;
    use crate::{
        Data, Gradient, GuidanceBindings, Job, Kernels, LabelData, LabelJob, PairJob, Request,
        ShaderDivergence,
    };
    use std::sync::atomic::Ordering::Relaxed;
    use tokenloss_core::divergence::{Distillation, JensenShannon};
    use tokenloss_core::label::SoftTargets;
    use tokenloss_core::{Denominator, Nll, Reduction};

    const ROWS: usize = 3_000;
    const VOCAB: usize = 101;

    /// Every byte, for whatever lies beside the logits.
    #[test]
    fn a_call_creates_what_the_requirements_say() {
        let shape = Shape::new(ROWS, VOCAB).unwrap().with_stride(VOCAB + 1).unwrap();
        let (of_second, dtype) = (Shape::new(ROWS, VOCAB).unwrap(), Dtype::F32);
        let divergence = JensenShannon::new(0.5).unwrap();
        // A binding of 128 KiB holds 321 rows of the logits of 16 bits, and 162 of the other rows.
        let low = wgpu::Limits { max_storage_buffer_binding_size: 128 << 10, ..wgpu::Limits::default() };
        for limits in [wgpu::Limits::default(), low] {
            let description = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
            let (device, _queue) = wgpu::Device::noop(&description);
            let kernels = Kernels::new(&device).unwrap();
            let sizes = [
                2 * ROWS * (VOCAB + 1),
                4 * ROWS * VOCAB,
                4 * ROWS,
                4 * ROWS,
                RECORD_BYTES as usize * ROWS,
                36,
            ];
            let buffers = sizes.map(|bytes| {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: bytes.next_multiple_of(4) as u64,
                    usage: wgpu::BufferUsages::STORAGE,
                    mapped_at_creation: false,
                })
            });
            let whole = |at: usize| {
                let buffer = &buffers[at];
                BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(wgpu::Buffer::size(buffer)) }
            };
            let data = Data { shape, dtype: Dtype::Bf16, logits: whole(0), targets: whole(2), map: None };
            let teacher = TeacherData { shape: of_second, dtype, logits: whole(1) };
            for wanted in 0..16 {
                let [gradient, records, totals, divergences] = [1, 2, 4, 8].map(|bit| wanted & bit != 0);
                let into = || if gradient { Gradient::InPlace } else { Gradient::None };
                let outputs = [records.then(|| whole(4)), totals.then(|| whole(5))];
                for reduction in [Reduction::Sum, Reduction::default(), Reduction::Mean(Denominator::Kept)] {
                    for beside in [
                        Second::Nothing,
                        Second::Pair { shape: of_second, dtype, divergences },
                        Second::Guide { shape: of_second, dtype },
                        Second::Labels { shape: of_second, dtype },
                    ] {
                        let [records_of, totals_of] = outputs.clone();
                        let before = kernels.allocated.load(Relaxed);
                        let mut encoder =
                            device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                        let job = Job {
                            data: data.clone(),
                            objective: &Nll,
                            reduction,
                            weights: None,
                            gradient: into(),
                            records: records_of.clone(),
                            totals: totals_of.clone(),
                        };
                        match beside {
                            Second::Nothing => kernels.encode(&mut encoder, &job),
                            Second::Guide { .. } => {
                                let guidance =
                                    GuidanceBindings { teacher: teacher.clone(), strength: 0.5, rows: None };
                                kernels.encode_guided(&mut encoder, &job, &guidance)
                            }
                            Second::Pair { .. } => kernels.encode_pair(
                                &mut encoder,
                                &PairJob {
                                    data: data.clone(),
                                    teacher: teacher.clone(),
                                    objective: &Nll,
                                    distillation: Distillation::new(
                                        &divergence as &dyn ShaderDivergence,
                                        0.5,
                                    )
                                    .unwrap(),
                                    reduction,
                                    weights: None,
                                    gradient: into(),
                                    records: records_of,
                                    divergences: divergences.then(|| whole(3)),
                                    totals: totals_of,
                                },
                            ),
                            Second::Labels { .. } => kernels.encode_labels(
                                &mut encoder,
                                &LabelJob {
                                    data: data.clone(),
                                    labels: LabelData {
                                        shape: of_second,
                                        dtype,
                                        labels: whole(1),
                                        class_weights: None,
                                    },
                                    objective: &SoftTargets::new().unwrap(),
                                    reduction,
                                    weights: None,
                                    gradient: into(),
                                    records: records_of,
                                    totals: totals_of,
                                },
                            ),
                        }
                        .unwrap();
                        let bytes = kernels.allocated.load(Relaxed) - before;
                        let request = Request {
                            shape,
                            dtype: Dtype::Bf16,
                            reduction,
                            gradient,
                            records,
                            totals,
                            beside,
                        };
                        let needs = kernels.requirements(&request).unwrap();
                        assert_eq!(bytes, needs.scratch_bytes, "{request:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_second_row_needs_a_binding_too() {
        let shape = |rows, vocab| Shape::new(rows, vocab).unwrap();
        let request = |beside| Request {
            shape: shape(4_096, 128_256),
            dtype: Dtype::Bf16,
            reduction: Reduction::Sum,
            gradient: true,
            records: true,
            totals: true,
            beside,
        };
        let needs = |beside| {
            crate::requirements(&request(beside), crate::Variant::Baseline, &wgpu::Limits::default())
        };
        let of = |rows, vocab| Second::Guide { shape: shape(rows, vocab), dtype: Dtype::F32 };
        assert_eq!(needs(of(4_096, 128_256)).unwrap().limits.max_buffer_size, 4_096 * 128_256 * 4);
        let says = |beside, text: &str| assert_eq!(needs(beside).unwrap_err().to_string(), text);
        says(of(4_095, 128_256), "teacher rows: expected 4096 values, got 4095");
        let labels = Second::Labels { shape: shape(4_096, 128_257), dtype: Dtype::F16 };
        says(labels, "label vocab: expected 128256 values, got 128257");
    }
}
