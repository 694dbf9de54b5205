//! The study as `summary.csv`: one line for each cell on each system, units in the names of the
//! columns.

use super::cell::CellResult;
use super::digest::Digest;

const HEAD: &str = "study,group,cell,threads,cache,unit,system,outcome,rounds,value,value_low,value_high,\
    ratio_to_native,ratio_low,ratio_high,noise_band,verdict,latency_p50_us,latency_p99_us,latency_p999_us,\
    wall_us_per_op,client_cpu_us_per_op,daemon_cpu_us_per_op,voluntary_switches_per_op,\
    involuntary_switches_per_op,migrations_per_op,requests_per_op,requests,steal_percent,times_of_arrival\n";

/// The table.
pub fn render(digest: &Digest) -> String {
    let mut table = HEAD.to_owned();
    for cell in &digest.cells {
        for row in &cell.results {
            let mut fields = vec![
                digest.study.clone(),
                cell.cell.group.clone(),
                cell.cell.id.clone(),
                cell.cell.threads.to_string(),
                cell.cell.cache.clone(),
                word(&cell.cell.unit),
                row.system.clone(),
            ];
            match &row.result {
                CellResult::Failed(reason) => fields.push(format!("failed: {reason}")),
                CellResult::Skipped(reason) => fields.push(format!("skipped: {reason}")),
                CellResult::Measured(figures) => {
                    let found = figures.comparison.as_ref();
                    // Lengths of queues have no ratio.
                    let ratio = found.map(|it| it.ratio).filter(|_| !figures.is_saturated());
                    let (cost, latency) = (figures.cost, figures.latency);
                    let requests: Vec<String> = figures
                        .requests_per_operation
                        .iter()
                        .map(|(opcode, count)| format!("{opcode}={count}"))
                        .collect();
                    fields.extend(["measured".to_owned(), figures.rounds.to_string()]);
                    fields.extend(
                        [figures.value.median, figures.value.low, figures.value.high].map(exact),
                    );
                    fields.extend([
                        optional(ratio.map(|ratio| ratio.median)),
                        optional(ratio.map(|ratio| ratio.low)),
                        optional(ratio.map(|ratio| ratio.high)),
                        optional(cell.noise_band),
                        found.map_or_else(String::new, |found| word(&found.verdict)),
                    ]);
                    fields.extend(
                        [
                            latency.p50 / 1e3,
                            latency.p99 / 1e3,
                            latency.p999 / 1e3,
                            figures.wall_us_per_operation,
                            cost.client_cpu_us,
                        ]
                        .map(exact),
                    );
                    fields.extend([
                        optional(cost.daemon_cpu_us),
                        exact(cost.voluntary_switches),
                        exact(cost.involuntary_switches),
                        optional(cost.migrations),
                        exact(figures.requests()),
                        requests.join(" "),
                        exact(figures.steal_percent),
                        optional(figures.times_of_arrival),
                    ]);
                }
            }
            let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
            table.push_str(&fields.join(","));
            table.push('\n');
        }
    }
    table
}

/// All digits: programs read this. The sum of nothing is -0, and that plus 0 is 0.
fn exact(value: f64) -> String {
    (value + 0.0).to_string()
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, exact)
}

/// The name under which serde knows a variant.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// A field as RFC 4180 has it.
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::fixture;

    #[test]
    fn every_cell_on_every_system_is_a_line() {
        let table = render(&fixture::digest());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 1 + 5 * 4);
        let head: Vec<&str> = lines[0].split(',').collect();
        let base = lines.iter().find(|line| line.contains(",open-1,") && line.contains(",base,"));
        let fields: Vec<&str> = base.expect("is there").split(',').collect();
        assert_eq!(fields.len(), head.len());
        let field =
            |name: &str| fields[head.iter().position(|found| *found == name).expect("is a column")];
        assert_eq!(field("verdict"), "slower");
        assert_eq!(field("unit"), "microseconds_per_operation");
        assert_eq!((field("requests_per_op"), field("requests")), ("2", "OPEN=1 RELEASE=1"));
        assert!((field("ratio_to_native").parse::<f64>().expect("a number") - 10.0).abs() < 0.1);
    }

    #[test]
    fn nothing_is_less_than_nothing() {
        assert_eq!((exact(-0.0), exact(-0.5)), ("0".into(), "-0.5".into()));
        let table = render(&fixture::digest());
        assert!(!table.split([',', '\n']).any(|field| field == "-0"), "{table}");
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
