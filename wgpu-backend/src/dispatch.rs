//! Dispatches: what they bind, their pipelines, and how they are recorded.

use crate::plan::slot_bytes;
use crate::{GpuError, Kernels};
use std::borrow::Cow;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use tokenloss_shaders::{Params, Program, binding};

/// What identifies a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    program: Program,
    judge: String,
    lanes: u32,
}

/// A part of a dispatch's buffers.
pub(crate) struct Bound<'a> {
    pub(crate) binding: u32,
    pub(crate) buffer: &'a wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

pub(crate) struct Dispatch<'a> {
    pub(crate) program: Program,
    pub(crate) judge: &'a str,
    pub(crate) lanes: u32,
    pub(crate) uniform: [u8; Params::BYTES],
    pub(crate) bound: Vec<Bound<'a>>,
    pub(crate) groups: (u32, u32),
}

impl Kernels {
    pub(crate) fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        dispatches: &[Dispatch<'_>],
    ) -> Result<(), GpuError> {
        // Every dispatch has a uniform of its own: one that is rewritten shows all of them the last value.
        let slot = slot_bytes(&self.limits);
        let mut bytes = vec![0; slot as usize * dispatches.len()];
        for (into, dispatch) in bytes.chunks_exact_mut(slot as usize).zip(dispatches) {
            into[..Params::BYTES].copy_from_slice(&dispatch.uniform);
        }
        let uniforms = self.create_buffer(bytes.len() as u64, wgpu::BufferUsages::UNIFORM, true);
        match uniforms.slice(..).get_mapped_range_mut() {
            Ok(mut mapped) => mapped.copy_from_slice(&bytes),
            // A lost device maps nothing.
            Err(error) => return Err(GpuError::DeviceLost { reason: error.to_string() }),
        }
        uniforms.unmap();

        let pipelines = dispatches.iter().map(|d| self.pipeline(d)).collect::<Result<Vec<_>, _>>()?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (i, (dispatch, pipeline)) in dispatches.iter().zip(&pipelines).enumerate() {
            let part = |buffer, offset, size| {
                wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
                    size: wgpu::BufferSize::new(size),
                })
            };
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: binding::PARAMS,
                resource: part(&uniforms, 0, Params::BYTES as u64),
            }];
            entries.extend(dispatch.bound.iter().map(|bound| wgpu::BindGroupEntry {
                binding: bound.binding,
                resource: part(bound.buffer, bound.offset, bound.size),
            }));
            let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("tokenloss"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[(i as u64 * slot) as u32]);
            pass.dispatch_workgroups(dispatch.groups.0, dispatch.groups.1, 1);
        }
        Ok(())
    }

    fn pipeline(&self, dispatch: &Dispatch<'_>) -> Result<wgpu::ComputePipeline, GpuError> {
        let key = Key { program: dispatch.program, judge: dispatch.judge.to_owned(), lanes: dispatch.lanes };
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.compile(&key)?;
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, key: &Key) -> Result<wgpu::ComputePipeline, GpuError> {
        // Someone's own objective may be refused: that is an error of this call, not of the process.
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("tokenloss"),
            source: wgpu::ShaderSource::Wgsl(Cow::Owned(key.program.assemble_with(&key.judge))),
        });
        let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        };
        let mut entries = vec![entry(binding::PARAMS, wgpu::BufferBindingType::Uniform, true)];
        let storage = wgpu::BufferBindingType::Storage { read_only: false };
        entries.extend(key.program.bindings().iter().map(|&number| entry(number, storage, false)));
        if key.program.reads_count() {
            entries.push(entry(binding::COUNT, wgpu::BufferBindingType::Uniform, false));
        }
        let group = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("tokenloss"),
            entries: &entries,
        });
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("tokenloss"),
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("tokenloss"),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[("WG", f64::from(key.lanes))],
                // Every element of workgroup memory is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        match ready(scope.pop()) {
            Some(Some(error)) => Err(GpuError::Shader { reason: error.to_string() }),
            _ => Ok(pipeline),
        }
    }
}

/// The value of a future that is ready at once, as error scopes are everywhere but in a browser.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
