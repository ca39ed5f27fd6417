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

const FIRST: [Predicate; 2] = [at(0, 1), at(1, 2)];
const SECOND: [Predicate; 2] = [at(1, 0), at(2, 1)];

const fn at(attribute: usize, code: u16) -> Predicate {
    Predicate { attribute, code }
}

fn sets(cells: &Cells) -> Vec<Vec<Predicate>> {
    explain(cells, GAIN_MIN, |_| None).explanations.into_iter().map(|found| found.all_of).collect()
}

fn assert_near(pairs: &[(f64, f64)]) {
    for (value, expected) in pairs {
        assert!(near(*value, *expected), "{value} is not {expected}");
    }
}

#[test]
fn the_baseline_of_the_worked_example_is_right_to_four_digits() {
    let table = Table::new(&worked_example());
    let start = baseline::baseline(&table);
    // Rows are in the order of their codes, which is that of the example.
    let rates = [
        0.005007, 0.005988, 0.009168, 0.009774, 0.020591, 0.018925, 0.005096, 0.006146, 0.009944, 0.009177, 0.021714,
        0.020471,
    ];
    let expected = [5.0072, 4.7907, 11.0016, 8.7969, 6.1773, 4.7314, 2.5478, 2.4586, 6.9610, 4.5883, 4.7772, 3.6848];
    for row in 0..12 {
        assert!((start.rate[row] - rates[row]).abs() < 1e-6, "{row}: {}", start.rate[row]);
        assert_near(&[(start.expected[row], expected[row])]);
    }
    assert_eq!(start.phi, 1.0);
}

#[test]
fn the_worked_example_is_explained_to_four_digits() {
    let report = explain(&worked_example(), GAIN_MIN, |_| None);
    assert_eq!((report.mode, report.phi, report.is_fleet_wide, report.fleet_lift), (Mode::History, 1.0, false, None));
    let [first, second] = report.explanations.as_slice() else { panic!("{report:?}") };
    assert_eq!((first.all_of.as_slice(), second.all_of.as_slice()), (&FIRST[..], &SECOND[..]));
    assert_near(&[
        (report.n, 6950.0),
        (report.k, 128.0),
        (report.expected, 65.5226),
        (report.unexplained.unwrap(), 0.0670),
        (first.n, 400.0),
        (first.k, 42.0),
        (first.expected, 8.4620),
        (first.lift, 4.9634),
        (first.gain, 30.8593),
        (first.coverage.unwrap(), 0.5368),
        (first.interval.0, 3.5772),
        (first.interval.1, 6.7091),
        (second.k, 32.0),
        (second.expected, 7.2493),
        (second.lift, 4.4142),
        (second.gain, 19.8737),
        (second.coverage.unwrap(), 0.3962),
        (second.interval.0, 3.0193),
        (second.interval.1, 6.2316),
    ]);
    assert!((first.p_adjusted - 1.19e-13).abs() < 1e-15 && (second.p_adjusted - 7.02e-9).abs() < 1e-11, "{report:?}");
    let drop_one = |found: &Explanation| found.drop_one.iter().flat_map(|(_, k, e)| [*k, *e]).collect::<Vec<_>>();
    for (found, expected) in [(first, [13.0, 10.9086, 26.0, 24.9499]), (second, [39.0, 36.4055, 9.0, 7.5550])] {
        for (value, expected) in drop_one(found).into_iter().zip(expected) {
            assert_near(&[(value, expected)]);
        }
    }
}

#[test]
fn the_runners_up_are_those_of_the_worked_example() {
    let table = Table::new(&worked_example());
    let start = baseline::baseline(&table);
    let mut found = search::search(&table, &start.expected, 1.0);
    found.sort_by(search::Candidate::rank);
    let gains: Vec<f64> = found.iter().map(|candidate| candidate.gain).collect();
    for (gain, expected) in gains.iter().zip([30.8593, 23.2209, 19.8737, 19.7074, 19.5701, 15.4401]) {
        assert_near(&[(*gain, expected)]);
    }
    let names: Vec<Vec<Predicate>> = found.iter().map(|candidate| table.predicates(&candidate.set)).collect();
    let expected = [&FIRST[..], &[at(0, 1)], &SECOND, &[at(2, 1)], &[at(1, 2)], &[at(0, 1), at(1, 2), at(2, 0)]];
    assert_eq!(names[..6], expected);
}

#[test]
fn twice_the_scatter_halves_the_evidence_and_widens_the_interval() {
    let table = Table::new(&worked_example());
    let start = Start { phi: 2.0, ..baseline::baseline(&table) };
    let Scanned { start, raised, taken } = scan::scan(&table, start, GAIN_MIN);
    let report = report(&table, &start, &raised, &taken, Vec::new());
    let [first, second] = report.explanations.as_slice() else { panic!("{report:?}") };
    assert_near(&[
        (first.gain, 13.9845),
        (second.gain, 8.4916),
        (first.interval.0, 3.0724),
        (first.interval.1, 7.5871),
    ]);
}

#[test]
fn against_the_plain_average_the_best_set_is_the_first_of_the_example() {
    let table = Table::new(&worked_example());
    let expected: Vec<f64> = table.n.iter().map(|n| n * 128.0 / 6950.0).collect();
    let found = search::search(&table, &expected, 1.0);
    let best = found.iter().min_by(|one, other| one.rank(other)).unwrap();
    assert_eq!(table.predicates(&best.set), FIRST);
    assert_near(&[(best.gain, 35.585), (best.k / best.expected, 5.701)]);
}

#[test]
fn without_history_permanent_differences_are_put_down_to_the_values() {
    // 2G fails half as often again as the rest, everywhere: nothing. In one region it fails six times as often: that.
    let grid = |rate: fn(u16, u16) -> f64| {
        let mut cells = Cells { codes: vec![Vec::new(); 2], ..Cells::default() };
        cells.attributes = [("net", 3), ("region", 4)]
            .map(|(name, count)| Attribute { name: name.into(), values: (0..count).map(|v| format!("{v}")).collect() })
            .into();
        for (net, region) in (0..3).flat_map(|net| (0..4).map(move |region| (net, region))) {
            cells.codes[0].push(net);
            cells.codes[1].push(region);
            cells.n.push(2_000.0);
            cells.k.push((2_000.0 * rate(net, region)).round());
            cells.n0.push(0.0);
            cells.k0.push(0.0);
        }
        cells
    };
    let report = explain(&grid(|net, _| if net == 2 { 0.015 } else { 0.01 }), GAIN_MIN, |_| None);
    assert_eq!((report.mode, report.explanations), (Mode::Contrast, vec![]));
    let both = grid(|net, region| {
        if (net, region) == (2, 1) {
            0.06
        } else if region == 3 {
            0.04
        } else {
            0.01
        }
    });
    assert_eq!(sets(&both), [vec![at(1, 3)], vec![at(0, 2), at(1, 1)]]);
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
fn order_names_and_splitting_of_cells_do_not_matter() {
    let cells = worked_example();
    let whole = explain(&cells, GAIN_MIN, |_| None);
    let columns = |cells: &mut Cells, change: fn(&mut Vec<f64>)| {
        [&mut cells.n, &mut cells.k, &mut cells.n0, &mut cells.k0].into_iter().for_each(change);
    };
    let mut reversed = cells.clone();
    reversed.codes.iter_mut().for_each(|codes| codes.reverse());
    columns(&mut reversed, |column| column.reverse());
    assert_eq!(explain(&reversed, GAIN_MIN, |_| None), whole);
    let mut split = cells.clone();
    split.codes.iter_mut().for_each(|codes| codes.push(codes[10]));
    columns(&mut split, |column| {
        let half = (column[10] / 2.0).floor();
        column[10] -= half;
        column.push(half);
    });
    assert_eq!(explain(&split, GAIN_MIN, |_| None), whole);
    let mut turned = cells.clone();
    turned.attributes.rotate_left(1);
    turned.codes.rotate_left(1);
    let back = |set: Vec<Predicate>| {
        let mut set: Vec<_> = set.into_iter().map(|p| at((p.attribute + 1) % 3, p.code)).collect();
        set.sort();
        set
    };
    assert_eq!(sets(&turned).into_iter().map(back).collect::<Vec<_>>(), sets(&cells));
    let mut renamed = cells.clone();
    renamed.attributes[1].values.swap(0, 2);
    renamed.codes[1].iter_mut().for_each(|code| *code = 2 - *code);
    let named = |set: Vec<Predicate>| -> Vec<Predicate> {
        set.into_iter().map(|p| if p.attribute == 1 { at(1, 2 - p.code) } else { p }).collect()
    };
    assert_eq!(sets(&renamed).into_iter().map(named).collect::<Vec<_>>(), sets(&cells));
}

#[test]
fn an_attribute_with_one_value_changes_the_gains_by_the_choice_of_attributes_only() {
    let cells = worked_example();
    let mut wider = cells.clone();
    wider.attributes.push(Attribute { name: "country".into(), values: vec!["CN".into()] });
    wider.codes.push(vec![0; 12]);
    let [one, other] = [cells, wider].map(|cells| explain(&cells, GAIN_MIN, |_| None).explanations);
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one.all_of, other.all_of);
        // Two of four instead of two of three.
        assert_near(&[(one.gain - other.gain, 2.0_f64.ln())]);
    }
}

#[test]
fn what_cannot_be_told_apart_is_named_once_and_without_what_holds_everywhere() {
    let mut cells = worked_example();
    let attribute = |name: &str, values: &[&str]| Attribute {
        name: name.to_owned(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    // One reseller has all that runs 4.2 over 2G, and nothing else; every terminal has the same system.
    cells.attributes.extend([attribute("reseller", &["AG01", "AG17"]), attribute("system", &["rtos"])]);
    cells.codes.push((0..12).map(|i| u16::from(i >= 10)).collect());
    cells.codes.push(vec![0; 12]);
    let report = explain(&cells, GAIN_MIN, |_| None);
    let headline = &report.explanations[0];
    assert_eq!((headline.all_of.as_slice(), headline.k), (&[at(3, 1)][..], 42.0));
    assert_eq!(headline.aliases, [(FIRST.to_vec(), 1.0)]);
}

#[test]
fn without_the_excess_of_a_set_exactly_that_set_is_not_found() {
    let cells = worked_example();
    for (gone, left) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let mut cells = cells.clone();
        let start = baseline::baseline(&Table::new(&cells));
        for row in 0..12 {
            if gone.iter().all(|p| cells.codes[p.attribute][row] == p.code) {
                cells.k[row] = start.expected[row].round();
            }
        }
        assert_eq!(sets(&cells), [left.to_vec()]);
    }
}

#[test]
fn whatever_the_counts_the_scan_ends_with_numbers() {
    let example = worked_example();
    let columns: [fn(f64) -> f64; 6] = [|_| 0.0, |v| v, |v| v * 1e9, |_| 1.0, |v| v / 1e3, |v| (v - 20.0).max(0.0)];
    for (one, other, third) in
        (0..6).flat_map(|one| (0..6).flat_map(move |other| (0..6).map(move |third| (one, other, third))))
    {
        let mut cells = example.clone();
        cells.k.iter_mut().for_each(|k| *k = columns[one](*k));
        cells.n.iter_mut().zip(&cells.k).for_each(|(n, k)| *n = columns[other](*n).max(*k));
        cells.k0.iter_mut().for_each(|k0| *k0 = columns[third](*k0));
        cells.n0.iter_mut().zip(&cells.k0).for_each(|(n0, k0)| *n0 = columns[other](*n0).max(*k0));
        let report = explain(&cells, GAIN_MIN, |_| None);
        for found in &report.explanations {
            for value in [found.k, found.expected, found.lift, found.gain, found.interval.0, found.interval.1] {
                assert!(value.is_finite() && value >= 0.0, "{found:?}");
            }
        }
    }
    // Columns that are too short and codes that stand for nothing are no reason to stop either.
    let mut broken = example.clone();
    broken.codes[1].truncate(3);
    broken.codes[2][5] = 9;
    broken.k0.clear();
    drop(explain(&broken, GAIN_MIN, |_| None));
}

#[test]
fn a_rise_of_everything_is_no_condition_and_hides_none() {
    let mut cells = worked_example();
    cells.k = cells.n0.iter().zip(&cells.k0).zip(&cells.n).map(|((n0, k0), n)| (k0 / n0 * n * 2.5).round()).collect();
    let report = explain(&cells, GAIN_MIN, |_| None);
    assert_eq!((report.explanations.as_slice(), report.is_fleet_wide), (&[][..], true));
    assert!((2.2..2.8).contains(&report.fleet_lift.unwrap()), "{report:?}");
    assert_eq!(report.unexplained, Some(1.0));
    // 4.2 over 2g fails five times as often again.
    cells.k[10] *= 5.0;
    cells.k[11] *= 5.0;
    let report = explain(&cells, GAIN_MIN, |_| None);
    assert_eq!(report.explanations.iter().map(|found| found.all_of.clone()).collect::<Vec<_>>(), [FIRST.to_vec()]);
    assert!((2.2..2.8).contains(&report.fleet_lift.unwrap()), "{report:?}");
}

#[test]
fn an_attribute_that_is_unknown_for_failures_only_is_left_out_and_named() {
    let mut cells = worked_example();
    // A field that is filled when a payment succeeds: unknown in nearly all failures.
    cells.attributes.push(Attribute { name: "acquirer".into(), values: vec!["".into(), "a".into()] });
    cells.codes.push(vec![1; 12]);
    for row in 0..12 {
        let (k, k0) = (cells.k[row], cells.k0[row]);
        for (codes, last) in cells.codes.iter_mut().zip([false, false, false, true]) {
            let code = if last { 0 } else { codes[row] };
            codes.push(code);
        }
        (cells.n[row], cells.k[row]) = (cells.n[row] - k, 0.0);
        (cells.n0[row], cells.k0[row]) = (cells.n0[row] - k0, 0.0);
        cells.n.push(k);
        cells.k.push(k);
        cells.n0.push(k0);
        cells.k0.push(k0);
    }
    let report = explain(&cells, GAIN_MIN, |_| None);
    assert_eq!(report.dropped, [3]);
    assert_eq!(report.explanations.iter().map(|found| found.all_of.clone()).collect::<Vec<_>>(), [FIRST, SECOND]);
    // Unknown for both alike is a value like any other.
    let mut cells = worked_example();
    cells.attributes[2].values[1] = "unknown".into();
    assert_eq!(explain(&cells, 100.0, |_| None).dropped, [] as [usize; 0]);
}

#[test]
fn rare_values_count_as_one_that_is_never_a_condition() {
    let example = worked_example();
    let mut cells = example.clone();
    let merchants = 3_000_u16;
    cells
        .attributes
        .push(Attribute { name: "merchant".into(), values: (0..merchants).map(|m| format!("m{m}")).collect() });
    let rows = cells.n.len();
    cells.codes.push(vec![0; rows]);
    // Each cell is spread over merchants; merchant 7 has half of the failures of one cell.
    for row in 0..rows {
        for m in 1..200_u16 {
            for (attribute, codes) in cells.codes.iter_mut().enumerate() {
                let code = if attribute == 3 { m * 12 + u16::try_from(row).unwrap() } else { codes[row] };
                codes.push(code);
            }
            for column in [&mut cells.n, &mut cells.n0] {
                let part = column[row] / 400.0;
                column.push(part);
            }
            cells.k.push(0.0);
            cells.k0.push(0.0);
        }
        for column in [&mut cells.n, &mut cells.n0] {
            column[row] *= 201.0 / 400.0;
        }
    }
    let table = Table::new(&cells);
    let column = &table.columns[3];
    assert!(column.is_identifier && column.values.len() <= 257, "{}", column.values.len());
    assert!(column.values.last().unwrap().is_none());
    let found = search::search(&table, &baseline::baseline(&table).expected, 1.0);
    assert!(
        found.iter().all(
            |candidate| candidate.set.predicates().iter().all(|p| p.0 != 3) || candidate.set.predicates().len() < 3
        )
    );
    assert_eq!(table.n.iter().sum::<f64>().round(), example.n.iter().sum::<f64>());
}

#[test]
fn unattended_scans_need_more_evidence() {
    assert_near(&[(gain_min_unattended(288, 10), 13.6655), (gain_min_unattended(1, 1), GAIN_MIN)]);
}

#[test]
fn a_few_dozen_failures_without_history_are_enough_for_a_plain_cause() {
    let mut cells = Cells { codes: vec![Vec::new(); 10], ..Cells::default() };
    cells.attributes = (0..10)
        .map(|number| Attribute {
            name: format!("a{number}"),
            values: if number == 0 || number == 7 { vec!["x".into(), "y".into()] } else { vec!["only".into()] },
        })
        .collect();
    for (firmware, access, k) in [(0, 0, 0.0), (0, 1, 1.0), (1, 0, 48.0), (1, 1, 0.0)] {
        for (number, codes) in cells.codes.iter_mut().enumerate() {
            codes.push(if number == 0 {
                firmware
            } else if number == 7 {
                access
            } else {
                0
            });
        }
        cells.n.push(48.0);
        cells.k.push(k);
        cells.n0.push(0.0);
        cells.k0.push(0.0);
    }
    let report = explain(&cells, gain_min_unattended(288, 4), |_| None);
    assert_eq!(
        report.explanations.iter().map(|found| found.all_of.clone()).collect::<Vec<_>>(),
        [[at(0, 1), at(7, 0)]]
    );
    assert!(report.explanations[0].lift > 4.0, "{report:?}");
}
