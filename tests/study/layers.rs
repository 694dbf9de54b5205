//! Where the time goes, checked against times that were put there.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

#[test]
fn a_delay_shows_in_the_layer_that_it_was_put_in() {
    // A machine that is busy with other things takes threads off their CPU wherever they are: what is
    // wrong is wrong each time.
    let mut wrong = Vec::new();
    while let Err(why) = layers_are_right() {
        wrong.push(why);
        assert!(wrong.len() < 4, "{wrong:#?}");
    }
}

fn layers_are_right() -> Result<(), String> {
    let desk = Desk::new(&delays(1, 0.05, &[("running", 80), ("asleep", 200)]));
    desk.run(&["--layers"]).succeeded();
    let samples = desk.samples();
    let layers = |system: &str| {
        let sample = samples.iter().find(|sample| sample.system == system).expect("was measured");
        measured(sample).layers.clone().unwrap_or_else(|| panic!("{sample:?}"))
    };
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

    // Below 100 µs the daemon runs, from there on it sleeps in a system call. A tenth is left for what
    // the ends of a trace cut off.
    let (running, asleep) = (layers("running"), layers("asleep"));
    let parts = ["client", "wake_up", "receive", "reply", "client_wake_up"];
    let all = |layers: &BTreeMap<String, f64>| parts.iter().all(|part| layers[*part] > 0.0);
    match () {
        () if running["daemon"] < 72_000.0 || running["daemon"] <= running["source"] => {
            Err(format!("not in the daemon: {running:?}"))
        }
        () if asleep["source"] < 180_000.0 || asleep["source"] <= asleep["daemon"] => {
            Err(format!("not in the source: {asleep:?}"))
        }
        () if !all(&running) || !all(&asleep) => Err(format!("empty: {running:?} {asleep:?}")),
        () => Ok(()),
    }
}
