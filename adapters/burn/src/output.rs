//! What comes out.

use crate::Error;
use crate::error::Fault;
use crate::op::Forward;
use crate::records::{TOTALS, of_words};
use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
use tokenloss_core::{NonFinite, Totals};

/// A loss, and what is known beside it. `R` is the rank of the targets.
#[derive(Debug, Clone)]
pub struct TokenLoss<const R: usize> {
    /// f32: `[1]`, or with no reduction `[rows]`, weights included. Differentiable.
    pub loss: Tensor<1>,
    /// In the shape of the targets, f32, nats; NaN where a row is ignored. Detached.
    pub log_p: Tensor<R>,
    /// In the shape of the targets, f32, nats; NaN where a row is ignored. Detached.
    pub entropy: Tensor<R>,
    /// The totals, in the backend's own words.
    words: Tensor<1, Int>,
    asked: Asked,
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "read where a GPU found a fault"))]
    records: Tensor<2>,
}

/// What faults are told from.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "read where a GPU found a fault"))]
pub(crate) struct Asked {
    pub(crate) targets: Tensor<1, Int>,
    pub(crate) vocab: usize,
    pub(crate) non_finite: NonFinite,
    pub(crate) fault: Fault,
}

impl<const R: usize> TokenLoss<R> {
    pub(crate) fn new(forward: Forward<Dispatch>, leading: [usize; R], asked: Asked) -> Result<Self, Error> {
        asked.fault.check()?;
        Ok(Self {
            loss: Tensor::from_dispatch(forward.loss),
            log_p: Tensor::<1>::from_dispatch(forward.log_p).reshape(leading),
            entropy: Tensor::<1>::from_dispatch(forward.entropy).reshape(leading),
            words: Tensor::from_dispatch(forward.totals),
            records: Tensor::from_dispatch(forward.records),
            asked,
        })
    }

    /// Sums and counts: loss, valid, kept, ignored, live. On a GPU this waits for forward and reads a few words back, and tells
    /// what is wrong with the rows, which forward does not wait for.
    ///
    /// # Errors
    /// * What went wrong since forward returned, in backward for instance.
    /// * On a GPU: [`Error::Target`]; [`Error::NonFinite`] and [`Error::Loss`] for rows that are not finite, if the options ask.
    /// * [`Error::Read`] where the tensor that holds them cannot be read.
    pub fn totals(&self) -> Result<Totals, Error> {
        let data = self.words.clone().try_into_data().map_err(unread)?;
        self.asked.fault.check()?;
        if let Ok(words) = data.as_slice::<i64>() {
            let words: &[i64; TOTALS] = words.try_into().map_err(unread)?;
            return Ok(of_words(words));
        }
        #[cfg(feature = "wgpu")]
        return self.read_back(data.as_slice::<i32>().map_err(|error| unread(format!("{error:?}")))?);
        #[cfg(not(feature = "wgpu"))]
        Err(unread(format!("they are of type {:?}", data.dtype())))
    }

    #[cfg(feature = "wgpu")]
    fn read_back(&self, words: &[i32]) -> Result<Totals, Error> {
        let words: Vec<u32> = words.iter().map(|&word| word as u32).collect();
        let Ok(words) = words.as_slice().try_into() else {
            return Err(unread(format!("{} words", words.len())));
        };
        let batch = tokenloss_wgpu::BatchRecord::from_words(words);
        if batch.bad != 0 {
            self.tell()?;
        }
        Ok(batch.totals)
    }

    /// What is wrong with the first bad row.
    #[cfg(feature = "wgpu")]
    fn tell(&self) -> Result<(), Error> {
        use tokenloss_wgpu::shaders::{RECORD_WORDS, Record, STATUS_BAD_TARGET, STATUS_NO_MASS};
        let Asked { targets, vocab, non_finite, .. } = &self.asked;
        let records = self.records.clone().try_into_data().map_err(unread)?;
        let records: Vec<f32> = records.try_to_vec().map_err(|error| unread(format!("{error:?}")))?;
        let (records, _) = records.as_chunks::<RECORD_WORDS>();
        for (row, record) in records.iter().enumerate() {
            let status = Record::from_words(&record.map(f32::to_bits)).status;
            match status {
                STATUS_BAD_TARGET => {
                    let target = targets.clone().narrow(0, row, 1);
                    let target =
                        target.try_into_scalar::<i64>().map_err(|error| unread(format!("{error:?}")))?;
                    return Err(Error::Target { row, target, vocab: *vocab });
                }
                0 => {}
                _ if *non_finite == NonFinite::NanRow => {}
                STATUS_NO_MASS => return Err(tokenloss_core::Error::NoMass { row, vocab: *vocab }.into()),
                column => return Err(Error::NonFinite { row, column: column as usize - 1 }),
            }
        }
        Ok(())
    }
}

fn unread(reason: impl ToString) -> Error {
    Error::Read { reason: reason.to_string() }
}
