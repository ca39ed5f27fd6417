use super::*;

fn worked_example() -> Cells {
    // firmware 4.1/4.2, net wifi/4g/2g, region N/S: n, k, n0, k0
    let rows: [[f64; 4]; 12] = [
        [1000., 6., 10000., 50.],
        [800., 21., 8000., 48.],
        [1200., 11., 12000., 110.],
        [900., 9., 9000., 88.],
        [300., 7., 3000., 62.],
        [250., 6., 2500., 47.],
        [500., 3., 1000., 5.],
        [400., 11., 800., 5.],
        [700., 7., 1400., 14.],
        [500., 5., 1000., 9.],
        [220., 23., 400., 9.],
        [180., 19., 300., 6.],
    ];
    let attribute = |name: &str, values: &[&str]| Attribute {
        name: name.to_owned(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    Cells {
        attributes: vec![
            attribute("firmware", &["4.1", "4.2"]),
            attribute("net", &["wifi", "4g", "2g"]),
            attribute("region", &["N", "S"]),
        ],
        codes: vec![
            (0..12).map(|i| i / 6).collect(),
            (0..12).map(|i| i / 2 % 3).collect(),
            (0..12).map(|i| i % 2).collect(),
        ],
        n: rows.iter().map(|row| row[0]).collect(),
        k: rows.iter().map(|row| row[1]).collect(),
        n0: rows.iter().map(|row| row[2]).collect(),
        k0: rows.iter().map(|row| row[3]).collect(),
    }
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-4 * other.abs().max(1e-9) + 5e-5
}

#[test]
fn the_worked_example_is_explained_to_four_digits() {
    let report = explain(&worked_example(), GAIN_MIN, |_| None);
    assert_eq!(report.mode, Mode::History);
    assert!(near(report.expected, 65.5226), "{}", report.expected);
    let [first, second] = report.explanations.as_slice() else { panic!("{report:?}") };
    let at = |attribute, code| Predicate { attribute, code };
    assert_eq!(first.all_of, [at(0, 1), at(1, 2)]);
    assert_eq!(second.all_of, [at(1, 0), at(2, 1)]);
    for (value, expected) in [
        (first.k, 42.0),
        (first.expected, 8.4620),
        (first.lift, 4.9634),
        (first.gain, 30.8593),
        (first.coverage.unwrap(), 0.5368),
        (first.interval.0, 3.5768),
        (first.interval.1, 6.7092),
        (second.expected, 7.2493),
        (second.gain, 19.8737),
        (second.coverage.unwrap(), 0.3962),
        (report.unexplained.unwrap(), 0.0670),
    ] {
        assert!(near(value, expected), "{value} is not {expected}");
    }
    // 2g without 4.2, and 4.2 off 2g.
    let [firmware, net] = first.drop_one.as_slice() else { panic!("{first:?}") };
    assert!(near(firmware.1, 13.0) && near(firmware.2, 10.9086), "{firmware:?}");
    assert!(near(net.1, 26.0) && near(net.2, 24.9499), "{net:?}");
}

#[test]
fn without_history_there_is_one_headline_at_most() {
    let mut cells = worked_example();
    cells.n0 = vec![0.0; 12];
    cells.k0 = vec![0.0; 12];
    let report = explain(&cells, GAIN_MIN, |_| None);
    assert_eq!(report.mode, Mode::Contrast);
    let [only] = report.explanations.as_slice() else { panic!("{report:?}") };
    assert!(near(only.gain, 35.585) && near(only.lift, 5.701), "{only:?}");
}

#[test]
fn nothing_is_named_when_everything_is_as_expected() {
    let mut cells = worked_example();
    cells.k = cells.k0.iter().zip(&cells.n0).zip(&cells.n).map(|((k0, n0), n)| (k0 / n0 * n).round()).collect();
    let report = explain(&cells, GAIN_MIN, |_| None);
    assert_eq!(report.explanations, []);
    assert_eq!(explain(&Cells::default(), GAIN_MIN, |_| None).explanations, []);
}

#[test]
fn a_set_that_rests_on_one_terminal_is_not_a_cause() {
    let cells = worked_example();
    let report = explain(&cells, GAIN_MIN, |set| {
        (set.len() == 2 && set[0].attribute == 0)
            .then(|| Part { terminal_id: 9, cells: vec![(10, 40.0, 22.0), (11, 40.0, 18.0)] })
    });
    assert_eq!(report.broken, [9]);
    assert!(report.explanations.iter().all(|found| found.all_of[0].attribute != 0), "{report:?}");
}

#[test]
fn the_order_of_cells_does_not_matter() {
    let cells = worked_example();
    let mut reversed = cells.clone();
    for column in &mut reversed.codes {
        column.reverse();
    }
    for column in [&mut reversed.n, &mut reversed.k, &mut reversed.n0, &mut reversed.k0] {
        column.reverse();
    }
    let sets =
        |cells| explain(&cells, GAIN_MIN, |_| None).explanations.into_iter().map(|e| e.all_of).collect::<Vec<_>>();
    assert_eq!(sets(cells), sets(reversed));
}
