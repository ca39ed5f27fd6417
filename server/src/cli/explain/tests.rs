use std::io::Write as _;

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: ExplainArgs,
}

fn call(args: &[&str]) -> anyhow::Result<String> {
    let program = Program::try_parse_from([&["explain"], args].concat())?;
    let mut out = Vec::new();
    run(&program.args, &mut out)?;
    Ok(String::from_utf8(out)?)
}

const EXAMPLE: &str = "\
fw,net,region,exposures,failures,base_exposures,base_failures
4.1,wifi,N,1000,6,10000,50
4.1,wifi,S,800,21,8000,48
4.1,4g,N,1200,11,12000,110
4.1,4g,S,900,9,9000,88
4.1,2g,N,300,7,3000,62
4.1,2g,S,250,6,2500,47
4.2,wifi,N,500,3,1000,5
4.2,wifi,S,400,11,800,5
4.2,4g,N,700,7,1400,14
4.2,4g,S,500,5,1000,9
4.2,2g,N,220,23,400,9
4.2,2g,S,180,19,300,6
";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn json(text: &str) -> Value {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    serde_json::from_str(&call(&["--cells", path, "--json"]).unwrap()).unwrap()
}

#[test]
fn a_table_is_answered_with_exactly_the_promised_fields() {
    let answer = json(EXAMPLE);
    assert_eq!(answer.as_array().unwrap().len(), 2);
    let first = answer[0].as_object().unwrap();
    let mut fields: Vec<&str> = first.keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut expected = [
        "predicates",
        "failures",
        "exposures",
        "expected",
        "lift",
        "lift_low",
        "lift_high",
        "coverage",
        "p_adjusted",
        "also_fits",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(first["predicates"], serde_json::json!({"fw": "4.2", "net": "2g"}));
    assert_eq!((first["failures"].as_u64(), first["exposures"].as_u64()), (Some(42), Some(400)));
    assert!((first["lift"].as_f64().unwrap() - 4.9634).abs() < 1e-3);
    assert_eq!(answer[1]["predicates"], serde_json::json!({"net": "wifi", "region": "S"}));
    assert_eq!(first["also_fits"], serde_json::json!([]));
}

#[test]
fn conditions_that_cannot_be_told_apart_are_listed() {
    // The agent deploys 4.2 over 2g only.
    let with_agent: String = EXAMPLE
        .lines()
        .map(|line| {
            let agent = if line.starts_with("fw") {
                "agent"
            } else if line.contains("4.2,2g") {
                "a17"
            } else {
                "a1"
            };
            format!("{agent},{line}\n")
        })
        .collect();
    let answer = json(&with_agent);
    assert_eq!(answer[0]["predicates"], serde_json::json!({"agent": "a17"}));
    assert_eq!(answer[0]["also_fits"][0], serde_json::json!({"predicates": {"fw": "4.2", "net": "2g"}, "jaccard": 1}));
}

#[test]
fn one_broken_terminal_is_no_cause_when_the_table_tells_terminals() {
    let mut with = "fw,net,terminal_id,exposures,failures,base_exposures,base_failures\n".to_owned();
    for terminal in 0..400 {
        let (fw, net) = (["4.1", "4.2"][terminal % 2], ["4g", "2g", "wifi"][terminal % 3]);
        let failures = if terminal == 7 { 70 } else { 1 };
        with.push_str(&format!("{fw},{net},t{terminal},100,{failures},500,5\n"));
    }
    let without: String = with
        .lines()
        .map(|line| {
            let f: Vec<&str> = line.split(',').collect();
            [f[0], f[1], f[3], f[4], f[5], f[6]].join(",") + "\n"
        })
        .collect();
    assert_eq!(json(&with), serde_json::json!([]));
    assert_ne!(json(&without), serde_json::json!([]));
}

#[test]
fn nothing_to_say_is_an_answer_and_text_says_it() {
    for nothing in ["fw,exposures,failures\n", "fw,exposures,failures\na,10,0\nb,20,0\n", "exposures,failures\n10,3\n"]
    {
        assert_eq!(json(nothing), serde_json::json!([]), "{nothing}");
    }
    let quiet = file("fw,exposures,failures\na,10,0\nb,20,0\n");
    let text = call(&["--cells", quiet.path().to_str().unwrap()]).unwrap();
    assert!(text.contains("No condition stands out.") && text.contains("of low confidence"), "{text}");
    let example = file(EXAMPLE);
    let text = call(&["--cells", example.path().to_str().unwrap()]).unwrap();
    for part in ["1. fw = 4.2 and net = 2g", "5.0 x expected (95 % interval 3.6 to 6.7)", "Unexplained: 7 %"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn a_table_that_cannot_be_read_is_refused_with_its_line() {
    let broken = file("fw,exposures,failures\na,1,0\nb,3,4\n");
    let error = call(&["--cells", broken.path().to_str().unwrap(), "--json"]).unwrap_err();
    assert!(error.is::<Unreadable>() && error.to_string().contains("line 3: failures 4 is more"), "{error}");
    assert!(call(&["--cells", "/nowhere/at/all.csv"]).unwrap_err().is::<Unreadable>());
}

#[test]
fn a_fleet_with_known_causes_can_be_evaluated_and_written() {
    let args = ["evaluate", "--small", "--instances", "5", "--seed", "3"];
    let score: Value = serde_json::from_str(&call(&[&args[..], &["--json"]].concat()).unwrap()).unwrap();
    assert!(score["f1"].as_f64().unwrap() > 0.5, "{score}");
    assert!(call(&args).unwrap().contains("F1 "));
    let cells = tempfile::NamedTempFile::new().unwrap();
    let path = cells.path().to_str().unwrap();
    let causes = call(&["evaluate", "--small", "--seed", "3", "--write-cells", path]).unwrap();
    assert!(causes.contains(" = "), "{causes}");
    let text = call(&["--cells", path]).unwrap();
    assert!(causes.lines().any(|cause| text.contains(cause.split(": ").next().unwrap())), "{causes}\n{text}");
}
