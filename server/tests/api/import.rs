//! Import of terminals from files as spreadsheets write them.

use serde_json::Value;
use tillward_server::terminals::import::ROWS_MAX;

use crate::harness::{Answer, TestServer, on_each_database};
use crate::seed::{MODEL, Tree};

fn import(server: &TestServer, token: &str, query: &str, file: &[u8]) -> Answer {
    server.send("POST", &format!("/api/v1/terminals/import?{query}"), token, &[("content-type", "text/csv")], file)
}

fn counts(imported: &Value) -> [u64; 5] {
    ["rows", "created", "updated", "unchanged", "invalid"].map(|name| imported[name].as_u64().unwrap())
}

fn total(server: &TestServer, token: &str) -> u64 {
    server.get("/api/v1/terminals/overview", token).expect(200).json()["total"].as_u64().unwrap()
}

#[test]
fn a_dry_run_says_what_an_import_then_does_and_sending_it_again_changes_nothing() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let file = format!("机具号,型号,商户名称,标签\n0001,{MODEL},张记面馆,vip;lab\n0002,{MODEL},,\n");
        let dry = import(server, &tree.east_ops, "dry_run=true", file.as_bytes()).expect(200).json();
        assert_eq!(counts(&dry), [2, 2, 0, 0, 0]);
        assert_eq!((&dry["dry_run"], &dry["encoding"]), (&Value::Bool(true), &Value::from("UTF-8")));
        assert_eq!(dry["preview"][0]["merchant_name"], "张记面馆");
        assert_eq!(total(server, &tree.admin), 0);
        let real = import(server, &tree.east_ops, "dry_run=false", file.as_bytes()).expect(200).json();
        assert_eq!(counts(&real), [2, 2, 0, 0, 0]);
        let again = import(server, &tree.east_ops, "", file.as_bytes()).expect(200).json();
        assert_eq!(counts(&again), [2, 0, 0, 2, 0]);
        let more = format!("SN,model,商户号\n0002,{MODEL},850331053110612\n");
        assert_eq!(counts(&import(server, &tree.east_ops, "", more.as_bytes()).expect(200).json()), [1, 0, 1, 0, 0]);
        let row = &server.get("/api/v1/terminals?q=850331053110612", &tree.admin).expect(200).json()["items"][0];
        assert_eq!((&row["sn"], &row["organization_id"]), (&Value::from("0002"), &Value::from(tree.east)));
        let tagged = server.get("/api/v1/terminals?tag=lab", &tree.admin).expect(200).json();
        assert_eq!(tagged["items"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn the_encoding_is_recognized() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let text = format!("机具序列号,型号,门店\nX{{}},{MODEL},张江店\n");
        let gbk = encoding_rs::GBK.encode(&text.replace("{}", "1")).0.into_owned();
        let bom = format!("\u{feff}{}", text.replace("{}", "2"));
        for (file, encoding) in [(gbk.as_slice(), "GB18030"), (bom.as_bytes(), "UTF-8 with BOM")] {
            let imported = import(server, &tree.east_ops, "", file).expect(200).json();
            assert_eq!((&imported["encoding"], &imported["created"]), (&Value::from(encoding), &Value::from(1)));
        }
        let page = server.get("/api/v1/terminals?q=%E5%BC%A0%E6%B1%9F%E5%BA%97", &tree.admin).expect(200).json();
        assert_eq!(page["items"].as_array().unwrap().len(), 2);
        import(server, &tree.east_ops, "", b"SN,model\n\xff\xff,x\n").expect(422);
    });
}

#[test]
fn refused_rows_come_back_with_reasons_and_without_card_data_or_formulas() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let west = format!("SN,model\nW1,{MODEL}\n");
        import(server, &tree.west_ops, "", west.as_bytes()).expect(200);
        let file = format!(
            "SN,型号,机构,备注,颜色\n\
             5.70228E+18,{MODEL},,,\n\
             A1,{MODEL},,,\n\
             A1,{MODEL},,,\n\
             A2,no-such,,,\n\
             A3,{MODEL},WEST,,\n\
             A4,{MODEL},,card 4111 1111 1111 1111,\n\
             A5,{MODEL},,,4111111111111111\n\
             W1,{MODEL},,,=HYPERLINK(1)\n\
             \"=\"\"0006\"\"\",{MODEL},EAST1,,\n\
             '００07,{MODEL},,,\n\
             ,,,,\n"
        );
        let dry = import(server, &tree.east_ops, "dry_run=true", file.as_bytes()).expect(200).json();
        let imported = import(server, &tree.east_ops, "", file.as_bytes()).expect(200).json();
        assert_eq!(counts(&dry), counts(&imported));
        assert_eq!(counts(&imported), [10, 3, 0, 0, 7]);
        assert_eq!(imported["ignored_columns"], serde_json::json!(["颜色"]));
        let url = imported["errors_url"].as_str().unwrap();
        let answer = server.get(url, &tree.east_ops).expect(200);
        let text = answer.text();
        assert!(text.starts_with('\u{feff}') && text.contains("\r\n"), "{text}");
        assert!(text.contains("颜色,reason"), "{text}");
        for reason in [
            "sn: was rounded by a spreadsheet",
            "sn: stands in line 3 of this file already",
            "model: is not a known model",
            "organization: is not the short code",
            "notes: looks like card data",
            "column: column 5 looks like card data",
            "sn: is registered already",
            ",'=HYPERLINK(1),",
        ] {
            assert!(text.contains(reason), "{reason} in {text}");
        }
        assert!(!text.contains("4111"), "{text}");
        assert_eq!(server.get(dry["errors_url"].as_str().unwrap(), &tree.east_ops).expect(200).text(), text);
        server.get(url, &tree.admin).expect(200);
        server.get(url, &tree.west_ops).expect(404);
        let moved = server.get("/api/v1/terminals?q=0006", &tree.admin).expect(200).json();
        assert_eq!(moved["items"][0]["organization_id"], tree.east_shop);
    });
}

#[test]
fn files_that_cannot_be_read_are_refused_as_a_whole() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        for (file, field) in [
            ("终端号,型号\n12345678,a-b\n", "sn"),
            ("SN,颜色\nA1,red\n", "model"),
            ("SN,机具号,model\nA1,A1,a-b\n", "sn"),
            ("", "sn"),
        ] {
            let problem = import(server, &tree.east_ops, "", file.as_bytes()).expect(422).json();
            assert_eq!(problem["field"], field, "{file}");
        }
        let foreign = format!("organization_id={}", tree.west);
        let file = format!("SN,model\nA1,{MODEL}\n");
        import(server, &tree.east_ops, &foreign, file.as_bytes()).expect(422);
        import(server, &tree.east_field, "", file.as_bytes()).expect(403);
        assert_eq!(
            import(server, &tree.east_ops, &format!("model={MODEL}"), b"SN\nA1\n").expect(200).json()["created"],
            1
        );
    });
}

#[test]
fn a_file_of_several_blocks_is_whole_and_audited_with_its_blocks() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let mut file = "SN,model,TUSN\n".to_owned();
        for row in 0..1_234 {
            file.push_str(&format!("B{row:05},{MODEL},00005702{row:012}\n"));
        }
        let imported = import(server, &tree.east_ops, "", file.as_bytes()).expect(200).json();
        assert_eq!(counts(&imported), [1_234, 1_234, 0, 0, 0]);
        assert_eq!(imported["errors_url"], Value::Null);
        assert_eq!(total(server, &tree.east_ops), 1_234);
        let trail = server.get("/api/v1/audit?size=4", &tree.admin).expect(200).json();
        let deeds = trail["items"].as_array().unwrap();
        assert_eq!(deeds.iter().filter(|deed| deed["action"] == "terminals.import").count(), 3);
        assert_eq!(server.get("/api/v1/audit/verify", &tree.admin).expect(200).json()["broken_at"], Value::Null);
    });
}

#[test]
fn too_many_rows_are_refused_before_any_is_taken() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let mut file = format!("SN,model\nA0,{MODEL}\n");
        for row in 0..ROWS_MAX {
            file.push_str(&format!("B{row},-\n"));
        }
        let refused = import(server, &tree.east_ops, "", file.as_bytes()).expect(422).json();
        assert!(refused["detail"].as_str().unwrap().contains("send it in parts"), "{refused}");
        assert_eq!(total(server, &tree.admin), 0);
    });
}

#[test]
fn a_server_that_imports_already_says_when_to_come_back() {
    on_each_database(|server| {
        let tree = Tree::plant(server);
        let file = format!("SN,model\nA1,{MODEL}\n");
        let mut turns = Vec::new();
        while let Ok(turn) = server.state.imports.take() {
            turns.push(turn);
        }
        let busy = import(server, &tree.east_ops, "", file.as_bytes()).expect(503);
        assert!(busy.header("retry-after").is_some());
        turns.pop();
        import(server, &tree.east_ops, "", file.as_bytes()).expect(200);
    });
}
