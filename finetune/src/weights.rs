//! The parameters of a model, by name.

use crate::Error;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// Parameters by their names in safetensors, in the order of their names. All are `f32` matrices: a vector is one row.
#[derive(Debug, Clone, Default)]
pub struct Weights(BTreeMap<String, Tensor<2>>);

impl Weights {
    /// Puts one in, `rows * columns` numbers.
    pub fn insert(&mut self, name: String, values: Vec<f32>, [rows, columns]: [usize; 2], device: &Device) {
        self.0.insert(name, Tensor::from_data(TensorData::new(values, [rows, columns]), device));
    }

    /// Puts one in.
    pub fn set(&mut self, name: String, tensor: Tensor<2>) {
        self.0.insert(name, tensor);
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Tensor<2>> {
        self.0.get(name)
    }

    /// Takes one out.
    pub fn take(&mut self, name: &str) -> Option<Tensor<2>> {
        self.0.remove(name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<2>)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The same without gradients.
    pub fn inner(&self) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), tensor.clone().inner())).collect())
    }

    /// A number that differs where a parameter, a name or a shape differs (FNV-1a over words).
    ///
    /// # Errors
    /// [`Error::Device`] if a parameter cannot be read.
    pub fn fingerprint(&self) -> Result<u64, Error> {
        const PRIME: u64 = 0x0100_0000_01b3;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut take = |word: u64| hash = (hash ^ word).wrapping_mul(PRIME);
        for (name, tensor) in &self.0 {
            name.bytes().for_each(|byte| take(byte.into()));
            tensor.dims().iter().for_each(|&size| take(size as u64));
            values(tensor.clone())?.iter().for_each(|value| take(value.to_bits().into()));
        }
        Ok(hash)
    }
}

/// The numbers of a tensor, row after row.
///
/// # Errors
/// [`Error::Device`] if they cannot be read.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.inner().try_into_vec_as::<f32>().map_err(Error::device)
}
