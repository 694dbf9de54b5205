//! What others published, beside what a study found: ratios only, absolute figures do not travel.

use super::digest::Digest;
use crate::report::statistics;

/// Where the figures come from.
pub(super) const SOURCE: &str =
    "\"To FUSE or Not to FUSE\" (FAST'17), StackFS on an SSD against ext4";
const FAST17: &str = include_str!("fast17.csv");

/// A cell that is like a published row.
#[derive(Debug, PartialEq)]
pub(super) struct Published {
    /// The cell's title.
    pub(super) title: String,
    /// The name of the published row.
    pub(super) workload: String,
    /// Share of ext4's rate that StackFS Base reached.
    pub(super) base: Option<f64>,
    /// The same of StackFS Opt.
    pub(super) opt: Option<f64>,
    /// Ours, by system, in the order of [`Digest::compared`].
    pub(super) ours: Vec<Option<f64>>,
}

/// The cells that name a published row.
pub(super) fn rows(digest: &Digest) -> Vec<Published> {
    let known = |cell: &super::digest::CellDigest| {
        let workload = cell.cell.published.clone()?;
        let (base, opt) = shares(&workload)?;
        let ours = digest
            .compared()
            .map(|system| {
                let ratio = cell.row(&system.system.id)?.comparison()?.ratio.median;
                Some(if cell.cell.unit.is_rate() { ratio } else { 1.0 / ratio })
            })
            .collect();
        Some(Published { title: cell.cell.title.clone(), workload, base, opt, ours })
    };
    digest.cells.iter().filter_map(known).collect()
}

/// The geometric means of the columns, each over the rows in which StackFS Opt and all of ours that
/// have any figure have one.
pub(super) fn means(rows: &[Published]) -> Option<Published> {
    let systems = rows.first()?.ours.len();
    let known: Vec<usize> =
        (0..systems).filter(|index| rows.iter().any(|row| row.ours[*index].is_some())).collect();
    let whole: Vec<&Published> = rows
        .iter()
        .filter(|row| row.opt.is_some() && known.iter().all(|index| row.ours[*index].is_some()))
        .collect();
    let mean = |value: &dyn Fn(&Published) -> Option<f64>| {
        let values: Option<Vec<f64>> = whole.iter().map(|row| value(row)).collect();
        statistics::geometric_mean(&values?)
    };
    (whole.len() > 1).then(|| Published {
        title: "geometric mean".into(),
        workload: format!("{} rows", whole.len()),
        base: mean(&|row| row.base),
        opt: mean(&|row| row.opt),
        ours: (0..systems).map(|index| mean(&|row| row.ours[index])).collect(),
    })
}

/// The shares of ext4's rate in a published row.
fn shares(workload: &str) -> Option<(Option<f64>, Option<f64>)> {
    let mut fields =
        FAST17.lines().find_map(|line| line.strip_prefix(workload)?.strip_prefix(','))?.split(',');
    let ext4: f64 = fields.next()?.parse().ok()?;
    let mut share = || Some(fields.next()?.parse::<f64>().ok()? / ext4);
    Some((share(), share()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::statistics::geometric_mean;
    use crate::report::study::fixture;

    #[test]
    fn the_figures_are_those_of_the_paper() {
        let (base, opt) = shares("File-server-50th").expect("was published");
        assert!((base.expect("was published") - 0.588).abs() < 0.001);
        assert!((opt.expect("was published") - 0.985).abs() < 0.001);
        assert_eq!(shares("preall-de-4KB-1th-2Mf").map(|found| found.1), Some(None));
        assert_eq!(shares("File"), None);
        let rows = FAST17.lines().filter(|line| !line.starts_with(['#', 'w']));
        let opt: Vec<f64> = rows.filter_map(|line| shares(line.split(',').next()?)?.1).collect();
        assert_eq!(opt.len(), 45);
        let mean = geometric_mean(&opt).expect("there are some");
        assert!((mean - 0.83).abs() < 0.02, "all rows: {mean}");
    }

    #[test]
    fn times_are_turned_into_shares() {
        let mut digest = fixture::digest();
        assert!(rows(&digest).is_empty());
        digest.cells[0].cell.published = Some("sq-re-1MB-1th-1f".into());
        digest.cells[1].cell.published = Some("File-server-50th".into());
        digest.cells[2].cell.published = Some("unheard of".into());
        let rows = rows(&digest);
        assert_eq!(rows.len(), 2);
        let ours = |row: usize, system: usize| rows[row].ours[system].expect("was measured");
        assert!((ours(0, 0) - 0.5).abs() < 0.01 && (ours(1, 0) - 0.1).abs() < 0.01);
        assert_eq!(rows[0].ours[2], None, "the peer was skipped");
        let means = means(&rows).expect("of two rows");
        assert_eq!(means.workload, "2 rows");
        let ours = means.ours[0].expect("both rows have it");
        assert!((ours - (0.5_f64 * 0.1).sqrt()).abs() < 0.01, "{ours}");
        assert_eq!(means.ours[2], None);
        assert_eq!(super::means(&rows[..1]), None, "of one row it is that row");
    }
}
