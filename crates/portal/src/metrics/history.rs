//! The last few minutes, for sparklines.

use std::collections::VecDeque;

use serde::Serialize;

use super::Sample;

/// Values kept: five minutes at one sample every two seconds.
const KEPT: usize = 150;

/// The newest sample, and what its numbers were before.
#[derive(Debug, Default)]
pub struct History {
    newest: Option<Sample>,
    points: VecDeque<Point>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    cpu: f32,
    memory: f32,
    received: f32,
    sent: f32,
    gpu: f32,
    gpu_memory: f32,
}

/// The numbers over time, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Percent of the cores.
    pub cpu_percent: Vec<f32>,
    /// Percent of the memory.
    pub memory_percent: Vec<f32>,
    /// Bytes per second.
    pub received_bytes_per_s: Vec<f32>,
    /// Bytes per second.
    pub sent_bytes_per_s: Vec<f32>,
    /// Percent, over all devices.
    pub gpu_percent: Vec<f32>,
    /// Percent of the memory of all devices.
    pub gpu_memory_percent: Vec<f32>,
}

impl History {
    /// Takes in a sample.
    #[allow(clippy::cast_possible_truncation, reason = "a point of a sparkline needs no more than 24 bits")]
    pub fn push(&mut self, sample: Sample) {
        let share = |used: u64, total: u64| if total == 0 { 0.0 } else { (used as f64 / total as f64 * 100.0) as f32 };
        let busy: Vec<f64> = sample.gpus.iter().filter_map(|gpu| gpu.percent).collect();
        let (used, total) = sample
            .gpus
            .iter()
            .fold((0, 0), |(used, total), gpu| (used + gpu.memory.used_bytes, total + gpu.memory.total_bytes));
        if self.points.len() == KEPT {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            cpu: sample.cpu.percent as f32,
            memory: share(sample.memory.used_bytes, sample.memory.total_bytes),
            received: sample.network.received_bytes_per_s as f32,
            sent: sample.network.sent_bytes_per_s as f32,
            gpu: (busy.iter().sum::<f64>() / busy.len().max(1) as f64) as f32,
            gpu_memory: share(used, total),
        });
        self.newest = Some(sample);
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<&Sample> {
        self.newest.as_ref()
    }

    /// All numbers.
    #[must_use]
    pub fn series(&self) -> Series {
        let column = |value: fn(&Point) -> f32| self.points.iter().map(|point| round(value(point))).collect();
        Series {
            cpu_percent: column(|point| point.cpu),
            memory_percent: column(|point| point.memory),
            received_bytes_per_s: column(|point| point.received),
            sent_bytes_per_s: column(|point| point.sent),
            gpu_percent: column(|point| point.gpu),
            gpu_memory_percent: column(|point| point.gpu_memory),
        }
    }
}

/// Two decimals: a sparkline shows no more, and JSON is a third as long.
fn round(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Sampler;

    #[test]
    fn it_forgets_the_oldest() {
        let mut history = History::default();
        let mut sampler = Sampler::new("/".as_ref(), "/");
        for _ in 0..KEPT + 5 {
            history.push(sampler.sample(Vec::new()));
        }
        assert_eq!(history.series().cpu_percent.len(), KEPT);
        assert!(history.newest().is_some());
    }
}
