//! A trainer on wgpu that owns its device. It asks what the loss takes, creates a device with that, and records each step
//! into one encoder: the loss and both gradients from hidden states and a head, without logits, then its own shader that
//! descends. Nothing comes back to the host but the totals.
//!
//! `cargo run -p tokenloss-example-raw-wgpu`

mod device;
mod trainer;

use std::error::Error;
use trainer::{Problem, Trainer};

const STEPS: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let problem = Problem::count_up(256, 64, 8_192);
    let request = problem.request();
    let Some(adapter) = device::adapter() else {
        println!("no adapter: there is no driver for Vulkan, Metal or DX12 on this machine");
        return Ok(());
    };
    let (needs, variant) = device::requirements(&adapter, &request)?;
    println!(
        "{}, {variant}: {} bytes of scratch, {} of uniforms, {} dispatches, {} rows x {} columns of logits at a time",
        adapter.get_info().name,
        needs.scratch_bytes,
        needs.uniform_bytes,
        needs.dispatches,
        needs.chunk_rows,
        needs.chunk_vocab,
    );
    let (device, queue) = device::create(&adapter, &needs)?;
    let trainer = Trainer::new(device, queue, variant, &problem)?;
    for step in 0..STEPS {
        let totals = trainer.step()?;
        if step % 4 == 3 {
            println!("step {:2}: loss {:.4}, {} rows with a gradient", step + 1, totals.loss(), totals.live);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Error, Problem, Trainer, device};

    #[test]
    fn it_learns() -> Result<(), Box<dyn Error>> {
        let problem = Problem::count_up(32, 16, 256);
        let Some(adapter) = device::adapter() else {
            assert!(
                std::env::var_os("TOKENLOSS_REQUIRE_GPU").is_none(),
                "a GPU is required, and there is none"
            );
            println!("skipped 1: no adapter");
            return Ok(());
        };
        let (needs, variant) = device::requirements(&adapter, &problem.request())?;
        let (device, queue) = device::create(&adapter, &needs)?;
        let trainer = Trainer::new(device, queue, variant, &problem)?;
        let first = trainer.step()?;
        assert_eq!(first.live, 31, "the last token has no next one");
        // Logits of 0.02 at most: all classes are alike.
        let even = 10.0 - 10.0 * 256f64.powf(-0.1);
        assert!((first.loss() - even).abs() < 0.02, "{} beside {even}", first.loss());
        let mut last = first.loss();
        for _ in 0..100 {
            last = trainer.step()?.loss();
        }
        assert!(last < first.loss() / 2.0, "from {} to {last}", first.loss());
        Ok(())
    }
}
