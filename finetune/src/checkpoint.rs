//! A run that can go on.

use crate::Error;
use crate::data::{Example, fingerprint};
use crate::optim::Moments;
use crate::save::{Whole, tensors};
use crate::train::Trainer;
use burn::tensor::{Tensor, TensorData};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// What a checkpoint was made of, and how far it got. All of it but the step has to be the same where it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct About {
    step: usize,
    model: String,
    data: String,
    settings: String,
}

/// The key of [`About`] in the file's own metadata.
const KEY: &str = "tokenloss";

/// What a run is made of, from before its first step.
#[derive(Debug, Clone)]
pub struct Origin {
    model: String,
    data: String,
    settings: String,
}

impl Origin {
    /// Of a trainer that has not yet made a step, and its data.
    ///
    /// # Errors
    /// [`Error::Device`] if parameters cannot be read.
    pub fn new(trainer: &Trainer, examples: &[Example]) -> Result<Self, Error> {
        let settings =
            serde_json::to_string(&trainer.settings).map_err(Error::format(Path::new("settings")))?;
        Ok(Self {
            model: format!("{:016x}", trainer.model.weights.fingerprint()?),
            data: format!("{:016x}", fingerprint(examples)),
            settings,
        })
    }

    /// Writes what has been trained, its moments and the step. What was at `path` stays until all is on the disk.
    ///
    /// # Errors
    /// [`Error::File`] if there is no room.
    pub fn save(&self, trainer: &Trainer, path: &Path) -> Result<(), Error> {
        let mut all = Vec::new();
        for name in trainer.trained() {
            if let Some(tensor) = trainer.model.weights.get(&name) {
                all.push((format!("parameter/{name}"), Whole::new(tensor)?));
            }
            if let Some(Moments { first, second }) = trainer.moments.get(&name) {
                all.push((format!("first/{name}"), Whole::new(first)?));
                all.push((format!("second/{name}"), Whole::new(second)?));
            }
        }
        let Self { model, data, settings } = self.clone();
        let about = serde_json::to_string(&About { step: trainer.step, model, data, settings });
        let about = HashMap::from([(KEY.to_owned(), about.map_err(Error::format(path))?)]);
        tensors(path, all, Some(about))
    }

    /// Puts the trainer where the checkpoint was written.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Format`] if it cannot be read, [`Error::Checkpoint`] if model, data or settings are
    /// others, [`Error::Missing`] and [`Error::Shape`] for its tensors.
    pub fn resume(&self, trainer: &mut Trainer, path: &Path) -> Result<(), Error> {
        let bytes = fs::read(path).map_err(Error::file(path))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(Error::format(path))?;
        let about = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let about = about.ok_or_else(|| Error::format(path)("it is no checkpoint"))?;
        let about: About = serde_json::from_str(about).map_err(Error::format(path))?;
        for (what, found, expected) in [
            ("the model", &about.model, &self.model),
            ("the data", &about.data, &self.data),
            ("the settings", &about.settings, &self.settings),
        ] {
            if found != expected {
                let (found, expected) = (found.clone(), expected.clone());
                return Err(Error::Checkpoint { path: path.to_owned(), what, found, expected });
            }
        }
        let stored = SafeTensors::deserialize(&bytes).map_err(Error::format(path))?;
        for name in trainer.trained() {
            let Some(old) = trainer.model.weights.take(&name) else { continue };
            let (expected, device) = (old.dims(), old.device());
            let read = |part: &str| {
                let name = format!("{part}/{name}");
                let tensor = stored.tensor(&name);
                let tensor =
                    tensor.map_err(|_| Error::Missing { path: path.to_owned(), name: name.clone() })?;
                let (found, bytes) = (tensor.shape().to_vec(), tensor.data());
                if found.iter().product::<usize>() != expected[0] * expected[1] {
                    return Err(Error::Shape {
                        path: path.to_owned(),
                        name,
                        found,
                        expected: expected.to_vec(),
                    });
                }
                let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                let data = TensorData::new(values.collect::<Vec<f32>>(), expected);
                Ok(Tensor::<2>::from_data(data, &device).inner())
            };
            let parameter = read("parameter")?;
            if about.step > 0 {
                let moments = Moments { first: read("first")?, second: read("second")? };
                trainer.moments.insert(name.clone(), moments);
            }
            trainer.model.weights.set(name, parameter.autodiff().require_grad());
        }
        trainer.step = about.step;
        Ok(())
    }
}
