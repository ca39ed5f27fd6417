//! Files of channels: encodings, mappings, blocks, errors, and the same rows again.

use std::io::Write;

use serde_json::json;
use tillward_server::imports::BLOCK_ROWS;

use super::{channel, counts, ended, import, moment, send, terminals};
use crate::harness::{TestServer, on_each_database, wait_until};
use crate::seed::Tree;

const HEADINGS: &str =
    "流水号,机具序列号,商户编号,商户名称,交易金额(元),结算金额(元),手续费(元),交易时间,交易状态,备注";

/// The hour that has begun: the same moment throughout a test, as a rule.
fn now(server: &TestServer) -> i64 {
    server.clock.now().hour_ms()
}

/// A file with `rows` good rows of terminal `S1`.
fn file(server: &TestServer, rows: std::ops::Range<i64>) -> String {
    let mut text = format!("{HEADINGS}\n");
    for row in rows {
        let at = moment(now(server) - 86_400_000 - row * 60_000);
        text.push_str(&format!("T{row:08},S1,850331053110612,张记面馆,100.00,99.40,0.60,{at},成功,\n"));
    }
    text
}

#[test]
fn every_encoding_comes_in_and_is_named() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let gbk = encoding_rs::GBK.encode(&file(server, 0..3)).0.into_owned();
        let gb18030 = encoding_rs::GB18030.encode(&file(server, 3..5).replace("张记", "㐀记")).0.into_owned();
        let bom = format!("\u{feff}{}", file(server, 5..6)).into_bytes();
        let xlsx = workbook(&file(server, 6..10));
        for (bytes, encoding, rows) in
            [(gbk, "GB18030", 3), (gb18030, "GB18030", 2), (bom, "UTF-8 with BOM", 1), (xlsx, "XLSX", 4)]
        {
            let done = import(server, &tree.east_ops, channel, &bytes);
            assert_eq!((&done["encoding"], counts(&done)), (&json!(encoding), [rows, 0, 0, 0]), "{done}");
            assert_eq!(done["state"], "done");
        }
        let kept = server.get("/api/v1/settlements?size=100", &tree.east_ops).expect(200).json();
        assert_eq!(kept["items"].as_array().unwrap().len(), 10);
        for row in kept["items"].as_array().unwrap() {
            assert_eq!((&row["amount_fen"], &row["settle_fen"]), (&json!(10_000), &json!(9_940)), "{row}");
        }
    });
}

#[test]
fn a_broken_row_is_named_by_its_line_and_nothing_else_is_lost() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = moment(now(server) - 3_600_000);
        let bad = format!(
            "{}\
             T9,5.70228E+18,,,1.00,,,{at},成功,\n\
             T10,S1,,,1.005,,,{at},成功,\n\
             T11,S1,,,1.00,,,昨天,成功,=cmd()\n\
             T12,4111111111111111,,,1.00,,,{at},成功,\n\
             T13,S1,,4111 1111 1111 1111,1.00,,,{at},成功,卡号 6222021234567890128\n\
             T14,\"=\"\"S1\"\"\",,,１.５0,,,{at},说不清,\n",
            file(server, 0..2)
        );
        let done = import(server, &tree.east_ops, channel, bad.as_bytes());
        assert_eq!(counts(&done), [3, 0, 0, 5], "{done}");
        assert_eq!(done["card_cells"], 2);
        assert_eq!(done["ignored"], json!(["备注"]));
        let url = done["errors_url"].as_str().unwrap();
        let text = server.get(url, &tree.east_ops).expect(200).text();
        assert!(text.starts_with("\u{feff}line,流水号,机具序列号"), "{text}");
        for line in [
            "4,T9,5.70228E+18,",
            "sn: was rounded by a spreadsheet",
            "5,T10,",
            "amount_fen: must be an amount in yuan",
            "6,T11,",
            "at_ms: must be a time like",
            ",'=cmd(),",
            "7,T12,****************,",
            "sn: looks like card data",
            "9,T14,",
            "status: is a word that is not known",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(text.matches("\r\n").count(), 6, "{text}");
        assert!(!text.contains("4111") && !text.contains("6222"), "{text}");
        server.get(url, &tree.west_ops).expect(404);
        let rows = server.get("/api/v1/settlements", &tree.east_ops).expect(200).text();
        assert!(!rows.contains("4111") && !rows.contains("6222"), "{rows}");
    });
}

#[test]
fn card_numbers_that_a_spreadsheet_keeps_as_numbers_are_in_no_table_and_no_list_of_errors() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = moment(now(server) - 3_600_000);
        let rows = format!(
            "{HEADINGS}\n\
             T1,4111111111111111,,,1.00,,,{at},成功,4111111111111111\n\
             T2,S1,4111111111111111,,1.00,,,{at},成功,\n"
        );
        let done = import(server, &tree.east_ops, channel, &workbook(&rows));
        assert_eq!((counts(&done), &done["card_cells"]), ([0, 0, 0, 2], &json!(3)), "{done}");
        let text = server.get(done["errors_url"].as_str().unwrap(), &tree.east_ops).expect(200).text();
        for reason in ["sn: was rounded by a spreadsheet", "merchant_no: was rounded by a spreadsheet"] {
            assert!(text.contains(reason), "{reason} in {text}");
        }
        assert!(!text.contains("111111"), "{text}");
        // As text it is no merchant number either.
        let done = import(server, &tree.east_ops, channel, rows.replace("T1,4111111111111111", "T1,S1").as_bytes());
        assert_eq!(counts(&done), [1, 0, 0, 1], "{done}");
        let text = server.get(done["errors_url"].as_str().unwrap(), &tree.east_ops).expect(200).text();
        assert!(text.contains("merchant_no: does not look like one") && !text.contains("111111"), "{text}");
        let kept = server.get("/api/v1/settlements", &tree.east_ops).expect(200).text();
        assert!(!kept.contains("111111"), "{kept}");
    });
}

#[test]
fn the_same_file_and_the_same_rows_count_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let rows = i64::try_from(BLOCK_ROWS).unwrap() * 2 + 7;
        // Written at once: the same row has the same time.
        let all = file(server, 0..rows + 5);
        let part = |from: i64, to: i64| {
            let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            let rows: Vec<&str> = all.lines().skip(1).take(to).skip(from).collect();
            format!("{HEADINGS}\n{}\n", rows.join("\n"))
        };
        let whole = part(0, rows);
        let first = import(server, &tree.east_ops, channel, whole.as_bytes());
        assert_eq!((counts(&first), &first["repeats"]), ([rows, 0, 0, 0], &json!(null)));
        let again = import(server, &tree.east_ops, channel, whole.as_bytes());
        assert_eq!(counts(&again), [0, 0, rows, 0]);
        assert_eq!(again["repeats"], first["id"]);
        let more = import(server, &tree.east_ops, channel, part(rows - 5, rows + 5).as_bytes());
        assert_eq!(counts(&more), [5, 0, 5, 0]);
        let mut twice = file(server, 2_000..2_001);
        let row = twice.lines().nth(1).unwrap().to_owned();
        twice.push_str(&format!("{row}\n"));
        assert_eq!(counts(&import(server, &tree.east_ops, channel, twice.as_bytes())), [1, 0, 1, 0]);
    });
}

#[test]
fn a_dry_run_says_what_an_import_then_does_and_keeps_nothing() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let text = format!("{}bad,S1,,,x,,,,,\n", file(server, 0..3));
        let tried = send(server, &tree.east_ops, channel, "start=try", text.as_bytes()).expect(202).json();
        let tried = ended(server, &tree.east_ops, &tried["id"]);
        assert_eq!((counts(&tried), &tried["dry_run"]), ([3, 0, 0, 1], &json!(true)));
        let none = server.get("/api/v1/settlements", &tree.east_ops).expect(200).json();
        assert_eq!(none["items"], json!([]));
        let start = format!("/api/v1/imports/{}/start", tried["id"].as_str().unwrap());
        server.post(&start, &tree.east_ops, &json!({"dry_run": false})).expect(200);
        let done = ended(server, &tree.east_ops, &tried["id"]);
        assert_eq!((counts(&done), &done["dry_run"]), ([3, 0, 0, 1], &json!(false)));
        server.post(&start, &tree.east_ops, &json!({})).expect(409);
    });
}

#[test]
fn a_mapping_is_asked_for_once_and_remembered_for_the_channel() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = now(server) - 7_200_000;
        let text = |row: i64| format!("甲,乙,丙,丁\nS1,12345,{},S\n", at + row * 1_000);
        let held = send(server, &tree.east_ops, channel, "", text(1).as_bytes()).expect(202).json();
        assert_eq!((&held["state"], &held["problem"]["field"]), (&json!("draft"), &json!("amount_fen")), "{held}");
        let path = format!("/api/v1/imports/{}", held["id"].as_str().unwrap());
        let mapping = json!({
            "columns": {"sn": "甲", "amount_fen": "乙", "at_ms": "丙", "status": "丁"}, "unit": "fen",
            "words": [{"field": "status", "says": "S", "means": "success"}],
        });
        let refused = json!({"mapping": {"columns": {"sn": "甲", "amount_fen": "没有", "at_ms": "丙"}}});
        let problem = server.post(&format!("{path}/start"), &tree.east_ops, &refused).expect(422).json();
        assert_eq!(problem["field"], "amount_fen");
        server.post(&format!("{path}/start"), &tree.east_ops, &json!({"mapping": mapping})).expect(200);
        assert_eq!(counts(&ended(server, &tree.east_ops, &held["id"])), [1, 0, 0, 0]);
        let next = import(server, &tree.east_ops, channel, text(2).as_bytes());
        assert_eq!((counts(&next), &next["mapping"]["unit"]), ([1, 0, 0, 0], &json!("fen")));
        let rows = server.get("/api/v1/settlements", &tree.east_ops).expect(200).json();
        assert_eq!(rows["items"][0]["amount_fen"], 12_345);
    });
}

#[test]
fn a_file_whose_headings_name_another_unit_than_the_last_is_read_in_its_own() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let at = moment(now(server) - 7_200_000);
        let text = |number: i64, unit: &str, amount: &str, fee_unit: &str| {
            format!("流水号,机具序列号,交易金额({unit}),手续费({fee_unit}),交易时间\n{number},S1,{amount},1,{at}\n")
        };
        let first = text(1, "元", "100", "元");
        let held = send(server, &tree.east_ops, channel, "start=hold", first.as_bytes()).expect(202).json();
        // Its mapping is remembered.
        let start = format!("/api/v1/imports/{}/start", held["id"].as_str().unwrap());
        server.post(&start, &tree.east_ops, &json!({})).expect(200);
        assert_eq!(counts(&ended(server, &tree.east_ops, &held["id"])), [1, 0, 0, 0]);
        let next = import(server, &tree.east_ops, channel, text(2, "分", "20000", "分").as_bytes());
        assert_eq!((counts(&next), &next["mapping"]["unit"]), ([1, 0, 0, 0], &json!("fen")), "{next}");
        let page = server.get("/api/v1/settlements", &tree.east_ops).expect(200).json();
        let mut amounts: Vec<i64> =
            page["items"].as_array().unwrap().iter().map(|row| row["amount_fen"].as_i64().unwrap()).collect();
        amounts.sort_unstable();
        assert_eq!(amounts, [10_000, 20_000]);
        let mixed = send(server, &tree.east_ops, channel, "", text(3, "元", "300", "分").as_bytes());
        let mixed = mixed.expect(202).json();
        assert_eq!((&mixed["state"], &mixed["problem"]["field"]), (&json!("draft"), &json!("fee_fen")), "{mixed}");
    });
}

#[test]
fn a_preview_shows_the_first_rows_as_they_are_understood() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let text = format!("{}bad,S1,,,x,,,,,\n", file(server, 0..3));
        let held = send(server, &tree.east_ops, channel, "start=hold", text.as_bytes()).expect(202).json();
        assert_eq!((&held["state"], &held["rows_total"]), (&json!("draft"), &json!(4)));
        let path = format!("/api/v1/imports/{}", held["id"].as_str().unwrap());
        let preview = server.get(&format!("{path}/preview"), &tree.east_ops).expect(200).json();
        let rows = preview["rows"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["values"]["amount_fen"]), (4, &json!("10000")), "{preview}");
        assert_eq!(rows[3]["problem"]["field"], "amount_fen");
        server.post(&format!("{path}/cancel"), &tree.east_ops, &json!({})).expect(200);
        server.post(&format!("{path}/start"), &tree.east_ops, &json!({})).expect(409);
        server.get(&path, &tree.west_ops).expect(404);
    });
}

#[test]
fn what_is_no_table_is_refused_at_once() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let (channel, _) = channel(server, &tree);
        for bad in [&b""[..], b"\xff\xff\xff", b"PK\x03\x04nonsense"] {
            let problem = send(server, &tree.east_ops, channel, "", bad).expect(422).json();
            assert_eq!(problem["field"], "file", "{problem}");
        }
        send(server, &tree.west_ops, channel, "", b"SN\n1\n").expect(422);
        send(server, &tree.east_field, channel, "", b"SN\n1\n").expect(403);
        assert_eq!(server.get("/api/v1/imports", &tree.east_ops).expect(200).json()["items"], json!([]));
    });
}

#[test]
fn an_import_that_was_cut_off_goes_on_from_its_last_block() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        terminals(server, &tree, &["S1"]);
        let (channel, _) = channel(server, &tree);
        let blocks = 4;
        let rows = i64::try_from(BLOCK_ROWS).unwrap() * blocks;
        let held = send(server, &tree.east_ops, channel, "start=hold", file(server, 0..rows).as_bytes());
        let id = held.expect(202).json()["id"].as_str().unwrap().to_owned();
        cut_off(server, &id, &tree);
        let done = server.get(&format!("/api/v1/imports/{id}"), &tree.east_ops).expect(200).json();
        assert_eq!(counts(&done), [rows, 0, 0, 0], "{done}");
        let trail = server.get("/api/v1/audit?size=20", &tree.admin).expect(200).json();
        let ends = trail["items"].as_array().unwrap().iter().filter(|deed| deed["action"] == "imports.done").count();
        assert_eq!(ends, 1);
    });
}

/// Begins an import with a worker that is dropped in the middle of its blocks, again and again, as a kill would do; the
/// server's own worker then finds a job whose lease has run out.
fn cut_off(server: &TestServer, id: &str, tree: &Tree) {
    let (db, blobs, clock) = (server.state.db.clone(), server.state.signing.blobs.clone(), server.clock.clone());
    server.post(&format!("/api/v1/imports/{id}/start"), &tree.east_ops, &json!({})).expect(200);
    for after_ms in [1, 5, 20, 40] {
        clock.advance_ms(tillward_server::imports::LEASE_MS + 1);
        // A block that was sent to the database still commits; the cursor says so.
        let _ = server.block_on(async {
            let pass = tillward_server::imports::pass(&db, &blobs, &clock);
            tokio::time::timeout(std::time::Duration::from_millis(after_ms), pass).await
        });
    }
    let path = format!("/api/v1/imports/{id}");
    wait_until("the import ends", || {
        clock.advance_ms(tillward_server::imports::LEASE_MS + 1);
        server.get(&path, &tree.east_ops).expect(200).json()["state"] == "done"
    });
}

/// An XLSX file of the rows of a CSV text: texts as inline strings, money as numbers.
fn workbook(csv: &str) -> Vec<u8> {
    let mut sheet = String::from(
        r#"<?xml version="1.0" encoding="UTF-8"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>"#,
    );
    for (line, row) in csv.lines().enumerate() {
        sheet.push_str(&format!("<row r=\"{}\">", line + 1));
        for (column, cell) in row.split(',').enumerate() {
            let at = format!("{}{}", char::from(b'A' + u8::try_from(column).unwrap()), line + 1);
            match cell.parse::<f64>() {
                Ok(number) => sheet.push_str(&format!("<c r=\"{at}\"><v>{number}</v></c>")),
                Err(_) => sheet.push_str(&format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{cell}</t></is></c>")),
            }
        }
        sheet.push_str("</row>");
    }
    sheet.push_str("</sheetData></worksheet>");
    let workbook = r#"<?xml version="1.0" encoding="UTF-8"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>"#;
    let relations = r#"<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#;
    let package = r#"<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
    zip(&[
        ("_rels/.rels", package),
        ("xl/workbook.xml", workbook),
        ("xl/_rels/workbook.xml.rels", relations),
        ("xl/worksheets/sheet1.xml", &sheet),
    ])
}

/// An archive whose parts are packed as spreadsheets pack them.
fn zip(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for (name, text) in parts {
        let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        let packed = packer.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(text.as_bytes());
        let mut common = Vec::new();
        common.extend([20, 0, 0, 0, 8, 0, 0, 0, 0, 0]);
        common.extend(crc.sum().to_le_bytes());
        common.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        common.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(u32::try_from(archive.len()).unwrap().to_le_bytes());
        directory.extend(name.as_bytes());
        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(&packed);
    }
    let at = u32::try_from(archive.len()).unwrap();
    let count = u16::try_from(parts.len()).unwrap().to_le_bytes();
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count);
    archive.extend(count);
    archive.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    archive.extend(at.to_le_bytes());
    archive.extend([0, 0]);
    archive
}
