//! What a channel may say of one payment, and the headings that usually say it. Pure.

use tillward_protocol::FieldError;

use crate::imports::mapping::{Field, Holds, Mapping};

/// Where a payment stands, in the words of channels.
const STATUS: &[(&str, &[&str])] = &[
    ("success", &["成功", "交易成功", "支付成功", "已成功", "已结算", "已支付", "ok", "succeeded", "approved", "00"]),
    (
        "failure",
        &["失败", "交易失败", "支付失败", "已失败", "已撤销", "已关闭", "fail", "failed", "declined", "closed"],
    ),
    ("processing", &["处理中", "交易处理中", "待处理", "待结算", "支付中", "pending", "unknown", "未知"]),
];

const fn field(name: &'static str, holds: Holds, headings: &'static [&'static str]) -> Field {
    Field { name, holds, is_required: false, headings }
}

/// The fields of a payment.
pub const FIELDS: &[Field] = &[
    field(
        "trans_no",
        Holds::Id { chars_max: 64 },
        &[
            "transno",
            "transactionno",
            "tradeno",
            "orderno",
            "交易流水号",
            "流水号",
            "平台流水号",
            "订单号",
            "交易订单号",
            "平台订单号",
            "交易号",
        ],
    ),
    field(
        "sn",
        Holds::Id { chars_max: 50 },
        &[
            "sn",
            "devicesn",
            "serialno",
            "机具号",
            "机具编号",
            "机具序列号",
            "机具sn",
            "设备号",
            "设备sn",
            "设备序列号",
            "终端序列号",
            "终端sn",
            "机身号",
            "序列号",
        ],
    ),
    field("terminal_no", Holds::Id { chars_max: 16 }, &["terminalno", "终端号", "终端编号", "终端代码"]),
    field(
        "merchant_no",
        Holds::Id { chars_max: 20 },
        &["merchantno", "merchantid", "商户号", "商户编号", "商户代码", "结算商户号"],
    ),
    field(
        "merchant_name",
        Holds::Text { chars_max: 100 },
        &["merchantname", "商户名", "商户名称", "商户简称", "结算商户名称"],
    ),
    field(
        "ref_no",
        Holds::Id { chars_max: 32 },
        &["refno", "retrievalno", "参考号", "系统参考号", "检索参考号", "交易参考号"],
    ),
    field("trace_no", Holds::Id { chars_max: 12 }, &["traceno", "凭证号", "流水凭证号", "终端流水号", "pos流水号"]),
    field("batch_no", Holds::Id { chars_max: 12 }, &["batchno", "批次号", "批次"]),
    field("mcc", Holds::Id { chars_max: 4 }, &["mcc", "mcc码", "清算mcc", "商户类别码", "行业码"]),
    Field {
        name: "amount_fen",
        holds: Holds::Money,
        is_required: true,
        headings: &["amount", "transamount", "交易金额", "消费金额", "订单金额", "支付金额", "金额"],
    },
    field(
        "settle_fen",
        Holds::Money,
        &[
            "settleamount",
            "结算金额",
            "到账金额",
            "实际到账",
            "实际到账金额",
            "入账金额",
            "清算金额",
            "结算净额",
            "实到金额",
        ],
    ),
    field("fee_fen", Holds::Money, &["fee", "手续费", "交易手续费", "商户手续费", "手续费金额"]),
    field(
        "withdraw_fen",
        Holds::Money,
        &["withdrawfee", "提现费", "提现手续费", "秒到费", "秒到手续费", "d0手续费", "附加手续费", "代付费"],
    ),
    field("rate_ppm", Holds::Rate, &["rate", "费率", "交易费率", "手续费率", "商户费率"]),
    field("capped", Holds::Flag, &["isfeecapping", "capped", "是否封顶", "封顶"]),
    field(
        "second_kind",
        Holds::Text { chars_max: 40 },
        &["secondordertype", "二次订单类型", "附加费类型", "服务费类型"],
    ),
    field("second_fen", Holds::Money, &["secondorderamount", "二次订单金额", "附加费"]),
    field("sim_fen", Holds::Money, &["simfee", "流量费", "流量卡费", "通讯费", "sim卡费"]),
    field("deposit_fen", Holds::Money, &["deposit", "押金"]),
    field("service_fen", Holds::Money, &["servicefee", "服务费"]),
    field(
        "pay_type",
        Holds::Text { chars_max: 40 },
        &["paymenttype", "paytype", "支付方式", "支付类型", "卡类型", "交易卡种"],
    ),
    field("order_type", Holds::Text { chars_max: 40 }, &["ordertype", "transtype", "交易类型", "订单类型", "业务类型"]),
    field("status", Holds::Word(STATUS), &["status", "transstatus", "状态", "交易状态", "订单状态", "支付状态"]),
    field(
        "at_ms",
        Holds::Moment,
        &[
            "successdatetime",
            "transtime",
            "paytime",
            "交易时间",
            "支付时间",
            "成功时间",
            "交易日期时间",
            "完成时间",
            "下单时间",
        ],
    ),
    field("date", Holds::Day, &["transdate", "交易日期", "日期"]),
    field("settle_date", Holds::Day, &["settledate", "清算日期", "结算日期", "入账日期"]),
    field("response_code", Holds::Id { chars_max: 8 }, &["responsecode", "respcode", "应答码", "返回码", "响应码"]),
];

/// What a feed's mapping must have beside its required fields: the terminal, and the moment.
///
/// # Errors
/// [`FieldError`] naming what has no column.
pub fn check(mapping: &Mapping) -> Result<(), FieldError> {
    mapping.check(FIELDS)?;
    let has = |name: &str| mapping.columns.contains_key(name);
    if !has("sn") && !has("terminal_no") {
        return Err(FieldError::new("sn", "has no column; say which one it is"));
    }
    if !has("at_ms") && !has("date") {
        return Err(FieldError::new("at_ms", "has no column; say which one it is"));
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
    fn usual_headings_of_channels_are_known() {
        for headings in [
            &["机具序列号", "商户编号", "交易金额(元)", "结算金额(元)", "手续费", "交易时间", "交易状态", "流水号"][..],
            &["deviceSn", "merchantNo", "amount", "settleAmount", "fee", "successDateTime", "status", "transNo"],
        ] {
            let mapping = of(headings);
            assert_eq!(mapping.columns.len(), headings.len(), "{mapping:?}");
            assert_eq!(check(&mapping), Ok(()));
        }
    }

    #[test]
    fn a_feed_names_the_terminal_the_amount_and_the_moment() {
        for (headings, field) in
            [(&["交易金额", "交易时间"][..], "sn"), (&["SN", "交易时间"], "amount_fen"), (&["SN", "金额"], "at_ms")]
        {
            assert_eq!(check(&of(headings)).unwrap_err().field, field);
        }
        assert_eq!(check(&of(&["终端号", "金额", "交易日期"])), Ok(()));
    }

    #[test]
    fn no_heading_means_two_fields() {
        let mut all: Vec<&str> = FIELDS.iter().flat_map(|field| field.headings.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
