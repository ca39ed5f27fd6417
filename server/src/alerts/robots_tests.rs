//! Signatures as published, bodies as documented, answers as the robots give them.

use super::*;

const NOW_MS: i64 = 1_763_800_000_000;

fn letter() -> Letter {
    Letter {
        title: "P1 大面积离线：浙江移动".to_owned(),
        level: Some(Level::P1),
        lines: vec![Line::Fact("组织：杭州一部".to_owned()), Line::Item("第一条".to_owned())],
        link: Some(("查看".to_owned(), "https://console.example/incidents/7".to_owned())),
    }
}

fn mention(mobiles: &[&str], everybody: bool) -> Mention {
    Mention { mobiles: mobiles.iter().map(|mobile| (*mobile).to_owned()).collect(), everybody, level: None }
}

fn request(robot: Robot, secret: Option<&str>, mention: &Mention, letter: &Letter) -> Request {
    robot.request("TOKEN-0123", secret, "", mention, letter, NOW_MS)
}

#[test]
fn signatures_are_those_of_the_published_vectors() {
    let signature = sign_dingtalk("SECtest0123456789", 1_763_800_000_000);
    assert_eq!(signature, "oexWEXr2woZs9qvCf6YNkW0Ejtdwiiejc+DRzavEEvY=");
    assert_eq!(percent(&signature), "oexWEXr2woZs9qvCf6YNkW0Ejtdwiiejc%2BDRzavEEvY%3D");
    assert_eq!(sign_feishu("feishu-test-secret", 1_763_800_000), "r1UyMr5xfQBO/6lMn/tPyLP5cNGCrXszaMObYXNhUUg=");
}

#[test]
fn a_signature_stands_where_its_robot_looks_for_it() {
    let signed = request(Robot::Dingtalk, Some("SECtest0123456789"), &Mention::default(), &letter());
    assert_eq!(
        signed.path,
        "/robot/send?access_token=TOKEN-0123&timestamp=1763800000000&sign=oexWEXr2woZs9qvCf6YNkW0Ejtdwiiejc%2BDRzavEEvY%3D"
    );
    assert!(signed.body.get("sign").is_none());
    let signed = request(Robot::Feishu, Some("feishu-test-secret"), &Mention::default(), &letter());
    assert_eq!(signed.path, "/open-apis/bot/v2/hook/TOKEN-0123");
    assert_eq!(signed.body["timestamp"], "1763800000", "seconds, as a text");
    assert_eq!(signed.body["sign"], "r1UyMr5xfQBO/6lMn/tPyLP5cNGCrXszaMObYXNhUUg=");
    for robot in [Robot::Dingtalk, Robot::Feishu, Robot::Wecom] {
        let plain = request(robot, None, &Mention::default(), &letter());
        assert!(!plain.path.contains("sign") && plain.body.get("sign").is_none(), "{robot:?}");
    }
}

#[test]
fn each_robot_gets_the_form_it_documents() {
    let quiet = Mention::default();
    let wecom = request(Robot::Wecom, None, &quiet, &letter());
    assert_eq!(wecom.path, "/cgi-bin/webhook/send?key=TOKEN-0123");
    assert_eq!(
        wecom.body,
        json!({"msgtype": "markdown", "markdown": {"content": "## <font color=\"warning\">P1 大面积离线：浙江移动</font>\n\
            > 组织：杭州一部\n> · 第一条\n[查看](https://console.example/incidents/7)"}})
    );
    let dingtalk = request(Robot::Dingtalk, None, &quiet, &letter());
    assert_eq!(
        dingtalk.body,
        json!({"msgtype": "markdown", "markdown": {"title": "P1 大面积离线：浙江移动",
            "text": "#### P1 大面积离线：浙江移动\n\n> 组织：杭州一部\n\n> · 第一条\n\n[查看](https://console.example/incidents/7)"},
            "at": {"atMobiles": [], "isAtAll": false}})
    );
    let feishu = request(Robot::Feishu, None, &quiet, &letter());
    assert_eq!(
        feishu.body,
        json!({"msg_type": "interactive", "card": {
        "header": {"template": "red", "title": {"tag": "plain_text", "content": "P1 大面积离线：浙江移动"}},
        "elements": [
            {"tag": "div", "text": {"tag": "lark_md", "content": "组织：杭州一部\n· 第一条"}},
            {"tag": "action", "actions": [{"tag": "button", "text": {"tag": "plain_text", "content": "查看"},
                "url": "https://console.example/incidents/7", "type": "primary"}]},
        ]}})
    );
}

#[test]
fn people_are_called_only_when_it_is_urgent_enough() {
    let people = mention(&["13800001111"], true);
    let wecom = request(Robot::Wecom, None, &people, &letter());
    assert_eq!(wecom.body["msgtype"], "text", "only a text can call somebody");
    assert_eq!(wecom.body["text"]["mentioned_list"], json!(["@all"]));
    assert_eq!(wecom.body["text"]["mentioned_mobile_list"], json!(["13800001111"]));
    let dingtalk = request(Robot::Dingtalk, None, &people, &letter());
    assert_eq!(dingtalk.body["at"], json!({"atMobiles": ["13800001111"], "isAtAll": true}));
    assert!(dingtalk.body["markdown"]["text"].as_str().unwrap().ends_with("@13800001111"));
    for level in [Some(Level::P2), None] {
        let calm = Letter { level, ..letter() };
        assert_eq!(request(Robot::Wecom, None, &people, &calm).body["msgtype"], "markdown");
        let dingtalk = request(Robot::Dingtalk, None, &people, &calm);
        assert_eq!(dingtalk.body["at"], json!({"atMobiles": [], "isAtAll": false}));
        assert!(!dingtalk.body.to_string().contains("138"));
    }
    let sooner = Mention { level: Some(Level::P2), ..people };
    assert_eq!(
        request(Robot::Wecom, None, &sooner, &Letter { level: Some(Level::P2), ..letter() }).body["msgtype"],
        "text"
    );
}

#[test]
fn sizes_count_bytes_and_never_cut_a_character_or_the_link() {
    let items = (0..400).map(|n| Line::Item(format!("{n} 参数漂移：终端报告的参数与下发的不一致"))).collect();
    let long = Letter { lines: items, title: "长".repeat(500), ..letter() };
    let everybody = mention(&[], true);
    for (body, at, most) in [
        (request(Robot::Wecom, None, &everybody, &long).body, "/text/content", WECOM_TEXT_BYTES_MAX),
        (request(Robot::Wecom, None, &Mention::default(), &long).body, "/markdown/content", WECOM_MARKDOWN_BYTES_MAX),
        (request(Robot::Dingtalk, None, &everybody, &long).body, "/markdown/text", DINGTALK_TEXT_BYTES_MAX),
    ] {
        let text = body.pointer(at).and_then(Value::as_str).unwrap();
        assert!(text.len() <= most && text.len() > most / 2, "{at}: {} of {most}", text.len());
        assert!(text.contains("https://console.example/incidents/7"), "{at}");
    }
    let feishu = request(Robot::Feishu, Some("s"), &Mention::default(), &long).body;
    assert!(feishu.to_string().len() <= 20_000, "{}", feishu.to_string().len());
}

#[test]
fn a_mandatory_keyword_stands_first() {
    for robot in [Robot::Wecom, Robot::Dingtalk, Robot::Feishu] {
        let body = robot.request("TOKEN-0123", None, "拉卡拉", &Mention::default(), &letter(), NOW_MS).body.to_string();
        assert!(body.contains("拉卡拉 P1 大面积离线"), "{robot:?}: {body}");
    }
}

#[test]
fn a_robot_has_the_message_only_when_its_own_code_is_zero() {
    use Robot::{Dingtalk, Feishu, Wecom};
    for (robot, body) in [
        (Wecom, r#"{"errcode":0,"errmsg":"ok"}"#),
        (Dingtalk, r#"{"errcode":0,"errmsg":"ok"}"#),
        (Feishu, r#"{"code":0,"msg":"success","data":{}}"#),
        (Feishu, r#"{"StatusCode":0,"StatusMessage":"success"}"#),
    ] {
        assert_eq!(robot.judge(200, body.as_bytes()), Outcome::Accepted(200), "{body}");
    }
    // Settings that do not fit, unknown codes and unreadable answers are no fault of the message: it waits.
    for (robot, status, body) in [
        (Wecom, 200, r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#),
        (Dingtalk, 200, r#"{"errcode":310000,"errmsg":"sign not match"}"#),
        (Feishu, 200, r#"{"code":19021,"msg":"sign match fail or timestamp is not within one hour"}"#),
        (Feishu, 200, r#"{"code":19022,"msg":"Ip Not Allowed"}"#),
        (Feishu, 200, r#"{"code":19024,"msg":"Key Words Not Found"}"#),
        (Wecom, 200, r#"{"errcode":-1,"errmsg":"system error"}"#),
        (Dingtalk, 200, r#"{"errcode":300001,"errmsg":"token is not exist"}"#),
        (Feishu, 200, r#"{"code":19001,"msg":"param invalid: incoming webhook access token invalid"}"#),
        (Feishu, 400, r#"{"code":19001,"msg":"param invalid: incoming webhook access token invalid"}"#),
        (Wecom, 200, r#"{"code":0}"#),
        (Dingtalk, 200, "<html>welcome</html>"),
        (Feishu, 200, ""),
        (Wecom, 302, ""),
        (Wecom, 404, "not found"),
        (Feishu, 502, "bad gateway"),
    ] {
        let outcome = robot.judge(status, body.as_bytes());
        assert!(matches!(outcome, Outcome::Away(Some(known), _) if known == status), "{robot:?} {body}: {outcome:?}");
    }
    for (robot, code, pause_ms) in [(Wecom, 45_009, 60_000), (Dingtalk, 130_101, 600_000), (Feishu, 11_232, 60_000)] {
        let body = format!(r#"{{"errcode":{code},"code":{code}}}"#);
        let outcome = robot.judge(200, body.as_bytes());
        assert!(matches!(outcome, Outcome::Busy(Some(200), _, pause) if pause == pause_ms), "{code}: {outcome:?}");
    }
    for (robot, code) in [(Feishu, 9_499), (Wecom, 40_008), (Wecom, 45_002), (Dingtalk, 400_105)] {
        let body = format!(r#"{{"errcode":{code},"code":{code}}}"#);
        assert!(matches!(robot.judge(200, body.as_bytes()), Outcome::Refused(200, _)), "{code}");
    }
    assert!(matches!(Feishu.judge(400, br#"{"code":9499}"#), Outcome::Refused(400, _)));
}

#[test]
fn only_an_address_on_the_robots_own_host_is_taken() {
    use Robot::{Dingtalk, Feishu, Wecom};
    for (robot, address) in [
        (Wecom, "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7xxx-4bc4"),
        (Dingtalk, " https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef "),
        (Feishu, "https://open.feishu.cn/open-apis/bot/v2/hook/0a1b2c3d-4e5f"),
    ] {
        assert!(robot.token(address).is_ok(), "{address}");
    }
    for address in [
        "http://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7xxx",
        "https://qyapi.weixin.qq.com.evil.example/cgi-bin/webhook/send?key=693a91f6-7xxx",
        "https://qyapi.weixin.qq.com@evil.example/cgi-bin/webhook/send?key=693a91f6-7xxx",
        "https://evil.example/cgi-bin/webhook/send?key=693a91f6-7xxx",
        "https://qyapi.weixin.qq.com:8443/cgi-bin/webhook/send?key=693a91f6-7xxx",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=short",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6-7xxx&x=1",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6/../../x",
        "https://oapi.dingtalk.com/robot/send?access_token=0123456789abcdef",
        "",
    ] {
        assert!(Wecom.token(address).is_err(), "{address}");
    }
}

#[test]
fn feishu_is_spared_at_the_full_and_the_half_hour() {
    let minute = |minute: i64| minute * MINUTE_MS + 59_999;
    for (at, avoided) in [(0, true), (1, false), (29, false), (30, true), (31, false), (59, false), (60, true)] {
        assert_eq!(Robot::Feishu.avoids(minute(at)), avoided, "{at}");
        assert!(!Robot::Dingtalk.avoids(minute(at)) && !Robot::Wecom.avoids(minute(at)));
    }
}
