//! Tables and sizes for eyes.

/// Rows under a head, columns as wide as they need to be. Columns that hold numbers only stand to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, title)| {
            rows.iter().map(|row| cell(row, column).chars().count()).chain([title.len()]).max().unwrap_or(0)
        })
        .collect();
    let right: Vec<bool> = (0..head.len())
        .map(|column| {
            !rows.is_empty() && rows.iter().all(|row| cell(row, column).starts_with(|c: char| c.is_ascii_digit()))
        })
        .collect();
    let line = |cells: Vec<String>| {
        let padded =
            cells.iter().zip(&widths).zip(&right).map(|((text, width), right)| {
                if *right { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let titles = line(head.iter().map(|title| (*title).to_owned()).collect());
    titles + &rows.iter().map(|row| line((0..head.len()).map(|column| cell(row, column)).collect())).collect::<String>()
}

/// `11.2 MiB`; below 1 KiB the plain number of bytes.
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, scale) in UNITS {
        if bytes >= scale {
            let tenths = (u128::from(bytes) * 10 + u128::from(scale) / 2) / u128::from(scale);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let rows = vec![vec!["ESP".into(), "64".into()], vec!["SYSTEM-A".into(), "5".into()]];
        assert_eq!(table(&["name", "MiB"], &rows), "name      MiB\nESP        64\nSYSTEM-A    5\n");
    }

    #[test]
    fn sizes_have_one_decimal() {
        let shown = [0, 1023, 1024, 11_708_352, 5 << 30].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "11.2 MiB", "5.0 GiB"]);
    }
}
