//! Where the time goes, checked against times that were put there.

use std::path::Path;

use super::*;

const DELAYS: &str = r#"
name = "delays"
title = "Time that the daemon spends by itself, and time that it spends in the kernel"
rounds = 1
seconds = 0.05
[[system]]
id = "running"
kind = "null"
arguments = ["--transport", "dev", "--delay-us", "80"]
[[system]]
id = "asleep"
kind = "null"
arguments = ["--transport", "dev", "--delay-us", "200"]
[[cells]]
workload = "stat-forced"
"#;

#[test]
fn a_delay_shows_in_the_layer_that_it_was_put_in() {
    let desk = Desk::new(DELAYS);
    desk.run(&["--layers"]).succeeded();
    let samples = desk.samples();
    let layers = |system: &str| {
        let sample = samples.iter().find(|sample| sample.system == system).expect("was measured");
        measured(sample).layers.clone().unwrap_or_else(|| panic!("{sample:?}"))
    };
    // Below 100 µs the daemon runs, from there on it sleeps in a system call. A tenth is left for what
    // the ends of a trace cut off.
    let running = layers("running");
    assert!(running["daemon"] >= 72_000.0, "{running:?}");
    assert!(running["daemon"] > running["source"], "{running:?}");
    let asleep = layers("asleep");
    assert!(asleep["source"] >= 180_000.0, "{asleep:?}");
    assert!(asleep["source"] > asleep["daemon"], "{asleep:?}");
    for layers in [running, asleep] {
        let parts = ["client", "wake_up", "receive", "reply", "client_wake_up"];
        assert!(parts.iter().all(|part| layers[*part] > 0.0), "{layers:?}");
    }
    let native = samples.iter().find(|sample| sample.system == "native").expect("was measured");
    assert_eq!(measured(native).layers, None);
    let page = fs::read_to_string(desk.results().join("report.html")).expect("was written");
    assert!(page.contains("Layer by layer"));

    desk.is_clean();
    for place in ["/sys/kernel/tracing/instances", "/sys/kernel/debug/tracing/instances"] {
        let left = fs::read_dir(Path::new(place)).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        let own = |name: &std::ffi::OsString| {
            let pid = name.to_string_lossy().strip_prefix("fusewire-").map(str::to_owned);
            // Of a process that lives it is another study's.
            pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        };
        assert!(!left.iter().any(own), "left in {place}: {left:?}");
    }
}
