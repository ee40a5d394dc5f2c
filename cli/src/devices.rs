//! `tokenloss devices`: what there is to compute on.

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use tokenloss::cpu::Level;

/// Options of `tokenloss devices`.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Devices {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let best = Level::best();
        let levels = Level::available();
        let adapters = crate::backend::adapters();
        if self.json {
            let report = serde_json::json!({
                "threads": rayon::current_num_threads(),
                "levels": levels.iter().map(|level| level.name()).collect::<Vec<_>>(),
                "best": best.name(),
                "adapters": adapters,
            });
            println!("{report:#}");
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["backend", "device", ""]);
        for level in levels {
            let note = if level == best { "used unless --level says otherwise" } else { "" };
            table.add_row(["cpu", &format!("{} threads, level {level}", rayon::current_num_threads()), note]);
        }
        for adapter in &adapters {
            table.add_row([
                "gpu",
                &format!("{}, {}", adapter.name, adapter.api),
                &format!("{}, driver {}", adapter.kind, adapter.driver),
            ]);
        }
        println!("{table}");
        if adapters.is_empty() {
            println!("gpu: no adapter");
        }
        Ok(())
    }
}
