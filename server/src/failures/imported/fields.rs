//! What a file may say of one failed transaction, and the headings that usually say it. Pure.

use tillward_protocol::FieldError;

use crate::imports::mapping::{Field, Holds, Mapping};

const TRANSACTION: &[(&str, &[&str])] = &[
    ("sale", &["消费", "刷卡消费", "收款", "扫码消费", "purchase"]),
    ("void", &["撤销", "消费撤销", "cancel"]),
    ("refund", &["退货", "退款"]),
    ("preauth", &["预授权"]),
    ("sign_in", &["签到"]),
    ("settle", &["结算", "批结算"]),
    ("other", &["其他", "其它"]),
];

const STAGE: &[(&str, &[&str])] = &[
    ("card_read", &["读卡", "刷卡"]),
    ("pin", &["输密", "输入密码", "密码"]),
    ("pack", &["组包"]),
    ("dns", &["域名解析"]),
    ("tcp", &["连接", "建立连接", "网络连接"]),
    ("tls", &["安全连接"]),
    ("send", &["发送"]),
    ("wait", &["等待应答", "超时", "等待超时", "timeout"]),
    ("mac_verify", &["mac校验", "校验mac"]),
    ("host_resp", &["主机应答", "应答"]),
    ("esign", &["电子签名", "签名"]),
    ("upload", &["上传"]),
];

const SOURCE: &[(&str, &[&str])] = &[
    ("issuer", &["发卡行"]),
    ("switch", &["银联", "转接"]),
    ("acquirer", &["收单机构", "收单"]),
    ("local", &["本机", "终端"]),
];

const ENTRY: &[(&str, &[&str])] = &[
    ("icc", &["插卡", "ic卡"]),
    ("mag", &["磁条", "磁条卡"]),
    ("nfc", &["挥卡", "非接", "闪付"]),
    ("qr", &["扫码", "二维码"]),
];

const ACCESS: &[(&str, &[&str])] = &[
    ("4g", &["lte"]),
    ("3g", &[]),
    ("2g", &["gprs"]),
    ("5g", &[]),
    ("wifi", &["无线", "wlan"]),
    ("eth", &["有线", "网线", "以太网"]),
];

const fn field(name: &'static str, holds: Holds, headings: &'static [&'static str]) -> Field {
    Field { name, holds, is_required: false, headings }
}

/// The fields of a failure.
pub(super) const FIELDS: &[Field] = &[
    Field {
        name: "sn",
        holds: Holds::Id { chars_max: 50 },
        is_required: true,
        headings: &[
            "sn",
            "devicesn",
            "serialno",
            "机具号",
            "机具编号",
            "机具序列号",
            "设备号",
            "设备序列号",
            "终端序列号",
            "机身号",
            "序列号",
        ],
    },
    field("id", Holds::Id { chars_max: 36 }, &["id", "eventid", "事件号", "记录号"]),
    field("at_ms", Holds::Moment, &["transtime", "time", "occurredat", "交易时间", "失败时间", "发生时间", "日期时间"]),
    field("date", Holds::Day, &["transdate", "交易日期", "日期"]),
    field("transaction", Holds::Word(TRANSACTION), &["transtype", "transaction", "交易类型", "业务类型"]),
    field("stage", Holds::Word(STAGE), &["stage", "失败环节", "环节", "失败阶段"]),
    field(
        "response_code",
        Holds::Id { chars_max: 2 },
        &["responsecode", "respcode", "应答码", "返回码", "响应码", "错误码"],
    ),
    field("response_source", Holds::Word(SOURCE), &["responsesource", "应答方", "拒绝方"]),
    field("entry", Holds::Word(ENTRY), &["entry", "entrymode", "输入方式", "读卡方式"]),
    field("amount_fen", Holds::Money, &["amount", "transamount", "交易金额", "消费金额", "金额"]),
    field("approved_fen", Holds::Money, &["approvedamount", "批准金额", "核准金额", "授权金额"]),
    field("batch_no", Holds::Id { chars_max: 6 }, &["batchno", "批次号", "批次"]),
    field("trace_no", Holds::Id { chars_max: 6 }, &["traceno", "凭证号", "流水号", "终端流水号", "pos流水号"]),
    field("ref_no", Holds::Id { chars_max: 12 }, &["refno", "参考号", "系统参考号", "检索参考号"]),
    field("merchant_no_sent", Holds::Id { chars_max: 15 }, &["merchantno", "商户号", "商户编号"]),
    field("terminal_no_sent", Holds::Id { chars_max: 8 }, &["terminalno", "终端号", "终端编号"]),
    field("firmware", Holds::Id { chars_max: 32 }, &["firmware", "固件", "固件版本"]),
    field("app", Holds::Id { chars_max: 32 }, &["appversion", "应用版本", "程序版本"]),
    field("access", Holds::Word(ACCESS), &["access", "network", "网络", "网络类型", "联网方式"]),
    field("note", Holds::Text { chars_max: 80 }, &["note", "message", "错误信息", "失败原因", "应答信息", "备注"]),
];

/// What a mapping must have beside its required fields: the moment, and what is known of the failure.
pub(super) fn check(mapping: &Mapping) -> Result<(), FieldError> {
    mapping.check(FIELDS)?;
    let has = |name: &str| mapping.columns.contains_key(name);
    if !has("at_ms") && !has("date") {
        return Err(FieldError::new("at_ms", "has no column; say which one it is"));
    }
    if !has("response_code") && !has("stage") {
        return Err(FieldError::new("response_code", "has no column; say which one it is"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headings: &[&str]) -> Mapping {
        let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
        Mapping::of_headings(FIELDS, &headings)
    }

    #[test]
    fn usual_headings_are_known_and_no_heading_means_two_fields() {
        let headings = ["机具序列号", "交易时间", "应答码", "交易金额(元)", "批次号", "流水号", "失败原因"];
        let mapping = of(&headings);
        assert_eq!(mapping.columns.len(), headings.len(), "{mapping:?}");
        assert_eq!(check(&mapping), Ok(()));
        let mut all: Vec<&str> = FIELDS.iter().flat_map(|field| field.headings.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_file_names_the_terminal_the_moment_and_the_code_or_stage() {
        for (headings, field) in
            [(&["交易时间", "应答码"][..], "sn"), (&["SN", "应答码"], "at_ms"), (&["SN", "交易时间"], "response_code")]
        {
            assert_eq!(check(&of(headings)).unwrap_err().field, field);
        }
        assert_eq!(check(&of(&["SN", "交易日期", "失败环节"])), Ok(()));
    }
}
