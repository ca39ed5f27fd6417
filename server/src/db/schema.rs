//! The tables, as both databases have them. Times are Unix ms; see the migrations for the columns' meaning.
//!
//! Kept in step with `migrations/` by a test that asks both databases for their columns.

#![allow(missing_docs)] // The columns are documented where they are created.

diesel::table! {
    id_counters (name) {
        name -> Text,
        next -> BigInt,
    }
}

diesel::table! {
    settings (key) {
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    organizations (id) {
        id -> BigInt,
        parent_id -> Nullable<BigInt>,
        path -> Text,
        level -> BigInt,
        name -> Text,
        short_code -> Text,
        region -> Nullable<Text>,
        status -> Text,
        created_at_ms -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    operators (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        login -> Text,
        name -> Text,
        password_hash -> Text,
        role -> Text,
        status -> Text,
        language -> Text,
        created_at_ms -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    sign_in_failures (login_hash) {
        login_hash -> Text,
        failures -> BigInt,
        failed_at_ms -> BigInt,
        locked_until_ms -> BigInt,
    }
}

diesel::table! {
    operator_sessions (id) {
        id -> Text,
        operator_id -> BigInt,
        family_hash -> Text,
        refresh_hash -> Text,
        csrf_token -> Text,
        user_agent -> Text,
        created_at_ms -> BigInt,
        expires_at_ms -> BigInt,
        revoked_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    api_keys (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        created_by -> BigInt,
        name -> Text,
        role -> Text,
        key_hash -> Text,
        key_prefix -> Text,
        created_at_ms -> BigInt,
        expires_at_ms -> BigInt,
        last_used_at_ms -> Nullable<BigInt>,
        revoked_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    audit_entries (seq) {
        seq -> BigInt,
        at_ms -> BigInt,
        actor_kind -> Text,
        actor_id -> BigInt,
        actor_name -> Text,
        org_path -> Text,
        action -> Text,
        object_kind -> Text,
        object_id -> Text,
        detail -> Text,
        request_id -> Text,
        previous_hash -> Text,
        hash -> Text,
    }
}

diesel::table! {
    models (code) {
        code -> Text,
        name -> Text,
        capabilities -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    terminals (id) {
        id -> BigInt,
        sn -> Text,
        sn_reversed -> Text,
        tusn -> Nullable<Text>,
        model -> Text,
        hardware -> Nullable<Text>,
        organization_id -> BigInt,
        org_path -> Text,
        merchant_no -> Nullable<Text>,
        merchant_name -> Nullable<Text>,
        store_name -> Nullable<Text>,
        terminal_no -> Nullable<Text>,
        region -> Text,
        iccid -> Nullable<Text>,
        imei -> Nullable<Text>,
        notes -> Nullable<Text>,
        lifecycle -> Text,
        session_epoch -> BigInt,
        public_key -> Nullable<Text>,
        enrolled_at_ms -> Nullable<BigInt>,
        stream -> BigInt,
        check_in_interval_s -> Nullable<BigInt>,
        assignment_version -> BigInt,
        desired_config_hash -> Nullable<Text>,
        created_at_ms -> BigInt,
        version -> BigInt,
        utc_offset_min -> Nullable<BigInt>,
    }
}

diesel::table! {
    terminal_tags (tag, terminal_id) {
        tag -> Text,
        terminal_id -> BigInt,
    }
}

diesel::table! {
    activation_codes (code_hash) {
        code_hash -> Text,
        terminal_id -> BigInt,
        created_at_ms -> BigInt,
        expires_at_ms -> BigInt,
        used_at_ms -> Nullable<BigInt>,
        used_public_key -> Nullable<Text>,
    }
}

diesel::table! {
    terminal_imports (id) {
        id -> Text,
        organization_id -> BigInt,
        org_path -> Text,
        file_sha256 -> Text,
        dry_run -> BigInt,
        result -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    terminal_import_errors (import_id, block) {
        import_id -> Text,
        block -> BigInt,
        csv -> Text,
    }
}

diesel::table! {
    terminal_states (terminal_id) {
        terminal_id -> BigInt,
        stream -> BigInt,
        seq -> BigInt,
        first_seen_ms -> BigInt,
        last_seen_ms -> BigInt,
        next_check_in_ms -> BigInt,
        interval_s -> BigInt,
        sampled_at_ms -> BigInt,
        check_ins -> BigInt,
        failures -> BigInt,
        transactions_ok -> BigInt,
        transactions_failed -> BigInt,
        firmware -> Text,
        slot -> Text,
        agent -> Text,
        app -> Nullable<Text>,
        config_hash -> Nullable<Text>,
        access -> Text,
        carrier -> Text,
        signal -> Text,
        org_path -> Nullable<Text>,
        model -> Nullable<Text>,
        lifecycle -> Nullable<Text>,
        region -> Nullable<Text>,
        tags -> Nullable<Text>,
        report -> Text,
        config_told -> Nullable<Text>,
        config_misses -> Nullable<BigInt>,
        poll_until_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    terminal_manifests (terminal_id) {
        terminal_id -> BigInt,
        counter -> BigInt,
        received_at_ms -> BigInt,
        body -> Text,
        signature -> Text,
    }
}

diesel::table! {
    condition_samples (terminal_id, at_ms) {
        terminal_id -> BigInt,
        at_ms -> BigInt,
        access -> Text,
        carrier -> Text,
        rsrp_dbm -> Nullable<BigInt>,
        sinr_db -> Nullable<BigInt>,
        rssi_dbm -> Nullable<BigInt>,
        rtt_ms -> Nullable<BigInt>,
        loss_percent -> Nullable<BigInt>,
        battery_percent -> Nullable<BigInt>,
        firmware -> Text,
        transactions_ok -> BigInt,
        transactions_failed -> BigInt,
    }
}

diesel::table! {
    cohorts (id) {
        id -> BigInt,
        org_path -> Text,
        model -> Text,
        hardware -> Text,
        firmware -> Text,
        app -> Text,
        config_hash -> Text,
        region -> Text,
        carrier -> Text,
        access -> Text,
        signal -> Text,
        in_update -> Text,
    }
}

diesel::table! {
    cohort_cells (hour_ms, cohort_id) {
        hour_ms -> BigInt,
        cohort_id -> BigInt,
        check_ins -> BigInt,
        transactions_ok -> BigInt,
        transactions_failed -> BigInt,
        exposures -> BigInt,
        failed_exposures -> BigInt,
        failures -> BigInt,
    }
}

diesel::table! {
    cohort_outcomes (hour_ms, cohort_id, outcome) {
        hour_ms -> BigInt,
        cohort_id -> BigInt,
        outcome -> Text,
        failures -> BigInt,
    }
}

diesel::table! {
    failures (terminal_id, event_id) {
        terminal_id -> BigInt,
        event_id -> Text,
        occurred_at_ms -> BigInt,
        received_at_ms -> BigInt,
        org_path -> Text,
        cohort_id -> BigInt,
        stage -> Text,
        response_code -> Nullable<Text>,
        transaction_type -> Text,
        amount_fen -> Nullable<BigInt>,
        firmware -> Text,
        config_hash -> Nullable<Text>,
        access -> Text,
        carrier -> Text,
        signal -> Text,
        event -> Text,
    }
}

diesel::table! {
    profiles (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        name -> Text,
        hash -> Text,
        body -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    releases (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        name -> Text,
        component -> Text,
        firmware_version -> Text,
        release_counter -> BigInt,
        models -> Text,
        min_from_counter -> Nullable<BigInt>,
        requires -> Text,
        sha256 -> Text,
        length_bytes -> BigInt,
        notes -> Text,
        state -> Text,
        created_by -> BigInt,
        created_by_name -> Text,
        approved_by -> Nullable<BigInt>,
        created_at_ms -> BigInt,
        published_at_ms -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    release_models (model, component, release_counter) {
        model -> Text,
        component -> Text,
        release_counter -> BigInt,
        release_id -> BigInt,
        target_name -> Text,
    }
}

diesel::table! {
    rollouts (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        name -> Text,
        release_id -> Nullable<BigInt>,
        profile_id -> Nullable<BigInt>,
        layer -> Nullable<Text>,
        filter -> Text,
        strategy -> Text,
        state -> Text,
        stage -> BigInt,
        why -> Text,
        state_since_ms -> BigInt,
        deadline_ms -> Nullable<BigInt>,
        assignment_timeout_s -> BigInt,
        retry_max -> BigInt,
        retry_wait_s -> BigInt,
        priority -> BigInt,
        starts_at_ms -> Nullable<BigInt>,
        ends_at_ms -> Nullable<BigInt>,
        targeted -> Nullable<BigInt>,
        target_digest -> Nullable<Text>,
        request -> Nullable<Text>,
        parent_id -> Nullable<BigInt>,
        created_by -> BigInt,
        created_by_name -> Text,
        created_at_ms -> BigInt,
        started_at_ms -> Nullable<BigInt>,
        finished_at_ms -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    rollout_progress (rollout_id) {
        rollout_id -> BigInt,
        admitted_up_to -> BigInt,
        admitted -> BigInt,
        scanned_at_ms -> Nullable<BigInt>,
        opened -> BigInt,
        stage_opened_ms -> Nullable<BigInt>,
        stage_filled_ms -> Nullable<BigInt>,
        swept_up_to -> BigInt,
        swept_at_ms -> Nullable<BigInt>,
        signalled_up_to -> BigInt,
        withdrawn_up_to -> BigInt,
        opened_up_to -> BigInt,
    }
}

diesel::table! {
    rollout_counts (rollout_id, phase) {
        rollout_id -> BigInt,
        phase -> Text,
        n -> BigInt,
    }
}

diesel::table! {
    assignments (id) {
        id -> BigInt,
        rollout_id -> BigInt,
        terminal_id -> BigInt,
        org_path -> Text,
        phase -> Text,
        reason -> Nullable<Text>,
        detail -> Nullable<Text>,
        live -> BigInt,
        stage -> BigInt,
        rank -> BigInt,
        hand_picked -> BigInt,
        ready_ms -> Nullable<BigInt>,
        wait -> Nullable<Text>,
        give_up_ms -> Nullable<BigInt>,
        window_ends_ms -> Nullable<BigInt>,
        started_at_ms -> Nullable<BigInt>,
        site -> BigInt,
        cell -> BigInt,
        attempts -> BigInt,
        bytes_done -> BigInt,
        bytes_total -> BigInt,
        from_firmware -> Nullable<Text>,
        created_at_ms -> BigInt,
        phase_since_ms -> BigInt,
        deadline_ms -> Nullable<BigInt>,
        finished_at_ms -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    gate_cells (rollout_id, cell) {
        rollout_id -> BigInt,
        cell -> BigInt,
        model -> Text,
        access -> Text,
        carrier -> Text,
        region -> Text,
        hardware -> Text,
        controls -> BigInt,
        controls_seen -> BigInt,
    }
}

diesel::table! {
    gate_counts (rollout_id, stage, cell) {
        rollout_id -> BigInt,
        stage -> BigInt,
        cell -> BigInt,
        waiting -> BigInt,
        started -> BigInt,
        failed -> BigInt,
        finished -> BigInt,
    }
}

diesel::table! {
    gate_commits (rollout_id, minute_ms, cell) {
        rollout_id -> BigInt,
        minute_ms -> BigInt,
        cell -> BigInt,
        n -> BigInt,
    }
}

diesel::table! {
    gate_events (rollout_id, terminal_id, event) {
        rollout_id -> BigInt,
        terminal_id -> BigInt,
        event -> Text,
        at_ms -> BigInt,
        site -> BigInt,
        cell -> BigInt,
        arm -> Text,
        updated_at_ms -> Nullable<BigInt>,
        class -> Text,
        judged -> Nullable<BigInt>,
        verdict -> Nullable<Text>,
        at_risk -> Nullable<Text>,
    }
}

diesel::table! {
    gate_judgements (rollout_id) {
        rollout_id -> BigInt,
        at_ms -> BigInt,
        stage -> BigInt,
        verdict -> Text,
        evidence -> Text,
    }
}

diesel::table! {
    rollout_stops (rollout_id, attribute, value) {
        rollout_id -> BigInt,
        attribute -> Text,
        value -> Text,
        why -> Text,
        stopped_by -> Text,
        stopped_at_ms -> BigInt,
    }
}

diesel::table! {
    update_events (terminal_id, assignment_id, at_ms, phase) {
        terminal_id -> BigInt,
        at_ms -> BigInt,
        assignment_id -> BigInt,
        phase -> Text,
        reason -> Nullable<Text>,
        detail -> Nullable<Text>,
        firmware -> Nullable<Text>,
    }
}

diesel::table! {
    incidents (id) {
        id -> BigInt,
        org_path -> Text,
        kind -> Text,
        dedup_key -> Text,
        level -> Text,
        state -> Text,
        subject -> Text,
        evidence -> Text,
        rollout_id -> Nullable<BigInt>,
        release_id -> Nullable<BigInt>,
        affected -> BigInt,
        owner_id -> Nullable<BigInt>,
        owner_name -> Nullable<Text>,
        occurrences -> BigInt,
        reminders -> BigInt,
        opened_at_ms -> BigInt,
        last_seen_ms -> BigInt,
        state_since_ms -> BigInt,
        resolved_at_ms -> Nullable<BigInt>,
        due_ms -> Nullable<BigInt>,
        version -> BigInt,
        parent_id -> Nullable<BigInt>,
        masked_since_ms -> Nullable<BigInt>,
        began_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    incident_terminals (incident_id, terminal_id) {
        incident_id -> BigInt,
        terminal_id -> BigInt,
    }
}

diesel::table! {
    incident_events (incident_id, seq) {
        incident_id -> BigInt,
        seq -> BigInt,
        at_ms -> BigInt,
        actor_kind -> Text,
        actor_id -> BigInt,
        actor_name -> Text,
        event -> Text,
        note -> Text,
        evidence -> Nullable<Text>,
    }
}

diesel::table! {
    alerts (id) {
        id -> BigInt,
        org_path -> Text,
        kind -> Text,
        level -> Text,
        incident_id -> Nullable<BigInt>,
        title_key -> Text,
        parameters -> Text,
        dedup_key -> Text,
        state -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    alert_channels (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        name -> Text,
        level -> Text,
        transport -> Text,
        failures -> BigInt,
        retry_at_ms -> BigInt,
        last_error -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
        deleted_at_ms -> Nullable<BigInt>,
        language -> Nullable<Text>,
        paused_at_ms -> Nullable<BigInt>,
        batch_s -> Nullable<BigInt>,
        rate_per_min -> Nullable<BigInt>,
        rate_at_ms -> Nullable<BigInt>,
        digest_since_ms -> Nullable<BigInt>,
        digest_done_ms -> Nullable<BigInt>,
        version -> Nullable<BigInt>,
    }
}

diesel::table! {
    alert_deliveries (alert_id, channel_id) {
        alert_id -> BigInt,
        channel_id -> BigInt,
        state -> Text,
        route -> Text,
        attempts -> BigInt,
        refusals -> BigInt,
        status -> Nullable<BigInt>,
        error -> Text,
        queued_at_ms -> BigInt,
        digest_id -> Nullable<BigInt>,
        attempted_at_ms -> Nullable<BigInt>,
        finished_at_ms -> Nullable<BigInt>,
        replays -> Nullable<BigInt>,
    }
}

diesel::table! {
    config_layers (layer, profile_name) {
        layer -> Text,
        profile_name -> Text,
        organization_id -> BigInt,
        org_path -> Text,
        tag -> Nullable<Text>,
        profile_id -> BigInt,
        previous_profile_id -> Nullable<BigInt>,
        since_ms -> BigInt,
        spreading -> BigInt,
        spread_path -> Text,
        spread_id -> BigInt,
    }
}

diesel::table! {
    terminal_layers (terminal_id, layer, profile_name) {
        terminal_id -> BigInt,
        layer -> Text,
        profile_name -> Text,
        profile_id -> Nullable<BigInt>,
        previous_profile_id -> Nullable<BigInt>,
        since_ms -> BigInt,
    }
}

diesel::table! {
    effective_configs (hash) {
        hash -> Text,
        body -> Text,
        used_at_ms -> BigInt,
    }
}

diesel::table! {
    config_drifts (terminal_id) {
        terminal_id -> BigInt,
        expected -> Text,
        since_ms -> BigInt,
        state -> Text,
        state_since_ms -> BigInt,
    }
}

diesel::table! {
    gate_folds (rollout_id) {
        rollout_id -> BigInt,
        version -> BigInt,
        up_to -> BigInt,
        since -> BigInt,
        cleared_up_to -> BigInt,
        state -> Text,
    }
}

diesel::table! {
    gate_failed (rollout_id, terminal_id, class) {
        rollout_id -> BigInt,
        terminal_id -> BigInt,
        class -> Text,
        at_ms -> BigInt,
        judged -> BigInt,
    }
}

diesel::table! {
    gate_sites (rollout_id, site, class) {
        rollout_id -> BigInt,
        site -> BigInt,
        class -> Text,
        at_ms -> BigInt,
        judged -> BigInt,
    }
}

diesel::table! {
    gate_losses (rollout_id, minute_ms, cell, arm, class) {
        rollout_id -> BigInt,
        minute_ms -> BigInt,
        cell -> BigInt,
        arm -> Text,
        class -> Text,
        n -> BigInt,
    }
}

diesel::table! {
    rollout_reasons (rollout_id, phase, reason, cell) {
        rollout_id -> BigInt,
        phase -> Text,
        reason -> Text,
        cell -> BigInt,
        n -> BigInt,
    }
}

diesel::table! {
    import_jobs (id) {
        id -> Text,
        organization_id -> BigInt,
        org_path -> Text,
        kind -> Text,
        source -> Text,
        file_name -> Text,
        file_sha256 -> Text,
        repeats -> Nullable<Text>,
        encoding -> Text,
        headings -> Text,
        mapping -> Text,
        dry_run -> BigInt,
        state -> Text,
        has_file -> BigInt,
        rows_total -> BigInt,
        rows_done -> BigInt,
        accepted -> BigInt,
        changed -> BigInt,
        duplicates -> BigInt,
        refused -> BigInt,
        card_cells -> BigInt,
        problem -> Nullable<Text>,
        created_by -> Text,
        created_at_ms -> BigInt,
        started_at_ms -> Nullable<BigInt>,
        finished_at_ms -> Nullable<BigInt>,
        lease_until_ms -> BigInt,
        attempts -> BigInt,
    }
}

diesel::table! {
    import_errors (import_id, block) {
        import_id -> Text,
        block -> BigInt,
        refused -> Text,
    }
}

diesel::table! {
    import_mappings (organization_id, kind, source) {
        organization_id -> BigInt,
        kind -> Text,
        source -> Text,
        org_path -> Text,
        mapping -> Text,
        updated_at_ms -> BigInt,
    }
}

diesel::table! {
    terminal_bindings (id) {
        id -> BigInt,
        terminal_id -> BigInt,
        merchant_no -> Text,
        merchant_name -> Nullable<Text>,
        terminal_no -> Nullable<Text>,
        store_name -> Nullable<Text>,
        from_ms -> BigInt,
        to_ms -> Nullable<BigInt>,
        actor -> Text,
        reason -> Text,
        org_path -> Text,
    }
}

diesel::table! {
    merchants (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        merchant_no -> Text,
        name -> Text,
        mcc -> Nullable<Text>,
        rate_ppm -> Nullable<BigInt>,
        risk_class -> Nullable<Text>,
        created_by -> Text,
        created_at_ms -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    merchant_numbers (id) {
        id -> BigInt,
        org_path -> Text,
        bound_no -> Text,
        number -> Text,
        name -> Nullable<Text>,
        state -> Text,
        payments -> BigInt,
        first_seen_ms -> Nullable<BigInt>,
        last_seen_ms -> Nullable<BigInt>,
        reason -> Text,
        valid_from_ms -> Nullable<BigInt>,
        valid_to_ms -> Nullable<BigInt>,
        requested_by_kind -> Nullable<Text>,
        requested_by_id -> Nullable<BigInt>,
        requested_by -> Nullable<Text>,
        decided_by -> Nullable<Text>,
        decided_at_ms -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    feed_channels (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        name -> Text,
        secret -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
        last_row_at_ms -> Nullable<BigInt>,
        deleted_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    channel_transactions (id) {
        id -> BigInt,
        channel_id -> BigInt,
        org_path -> Text,
        ref_key -> Text,
        digest -> Text,
        terminal_id -> Nullable<BigInt>,
        sn -> Text,
        at_ms -> BigInt,
        status -> Text,
        amount_fen -> BigInt,
        settle_fen -> Nullable<BigInt>,
        fee_fen -> Nullable<BigInt>,
        withdraw_fen -> Nullable<BigInt>,
        second_orders -> Nullable<Text>,
        rate_ppm -> Nullable<BigInt>,
        capped -> Nullable<BigInt>,
        merchant_no -> Nullable<Text>,
        merchant_name -> Nullable<Text>,
        mcc -> Nullable<Text>,
        ref_no -> Nullable<Text>,
        trace_no -> Nullable<Text>,
        batch_no -> Nullable<Text>,
        detail -> Text,
        import_id -> Nullable<Text>,
        received_at_ms -> BigInt,
        match_quality -> Text,
        matched_event -> Nullable<Text>,
        result -> Text,
        lacking -> Nullable<Text>,
        severity -> Text,
        due_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    exposure_slots (terminal_id, hour_ms) {
        terminal_id -> BigInt,
        hour_ms -> BigInt,
        cohort_id -> BigInt,
        failed -> BigInt,
    }
}

diesel::table! {
    rule_table_edits (organization_id, version) {
        organization_id -> BigInt,
        version -> BigInt,
        org_path -> Text,
        overrides -> Text,
        note -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    rule_table_versions (hash) {
        hash -> Text,
        body -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    verdicts (source, terminal_id, item) {
        source -> Text,
        terminal_id -> BigInt,
        item -> Text,
        org_path -> Text,
        received_at_ms -> BigInt,
        response_code -> Nullable<Text>,
        rule -> Nullable<Text>,
        symptom -> Text,
        cause -> Text,
        severity -> Text,
        standing -> Text,
        confidence_percent -> BigInt,
        judgement -> Text,
        tables_hash -> Text,
        judged_at_ms -> BigInt,
        revision -> BigInt,
        earlier -> Text,
    }
}

diesel::table! {
    verdict_counts (source, hour_ms, org_path, cause, symptom) {
        source -> Text,
        hour_ms -> BigInt,
        org_path -> Text,
        cause -> Text,
        symptom -> Text,
        n -> BigInt,
    }
}

diesel::table! {
    payments (terminal_id, event_id) {
        terminal_id -> BigInt,
        event_id -> Text,
        occurred_at_ms -> BigInt,
        at_ms -> BigInt,
        received_at_ms -> BigInt,
        org_path -> Text,
        transaction_type -> Text,
        amount_fen -> BigInt,
        batch_no -> Nullable<Text>,
        trace_no -> Nullable<Text>,
        ref_no -> Nullable<Text>,
        merchant_no_sent -> Nullable<Text>,
        terminal_no_sent -> Nullable<Text>,
        merchant_no_resp -> Nullable<Text>,
    }
}

diesel::table! {
    imported_failures (terminal_id, event_id) {
        terminal_id -> BigInt,
        event_id -> Text,
        source -> Text,
        dedup_key -> Nullable<Text>,
        import_id -> Nullable<Text>,
        created_by -> Text,
        created_at_ms -> BigInt,
        ref_key -> Nullable<Text>,
        told_event -> Nullable<Text>,
        completed_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    lookups (id) {
        id -> Text,
        org_path -> Text,
        terminal_id -> BigInt,
        event_id -> Nullable<Text>,
        at_ms -> BigInt,
        amount_fen -> Nullable<BigInt>,
        ref_no -> Nullable<Text>,
        level -> Text,
        source -> Text,
        merchant_name -> Nullable<Text>,
        merchant_no -> Nullable<Text>,
        mcc -> Nullable<Text>,
        looked_up_at_ms -> BigInt,
        note -> Text,
        judgement -> Text,
        tables_hash -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
        withdrawn_by -> Nullable<Text>,
        withdrawn_at_ms -> Nullable<BigInt>,
        due_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    evidence_packs (id) {
        id -> Text,
        org_path -> Text,
        terminal_id -> BigInt,
        event_id -> Text,
        content -> Text,
        sha256 -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    explanations (id) {
        id -> BigInt,
        org_path -> Text,
        class -> Text,
        from_ms -> BigInt,
        to_ms -> BigInt,
        report -> Text,
    }
}

diesel::table! {
    pass_times (pass) {
        pass -> Text,
        due_ms -> BigInt,
    }
}

diesel::table! {
    alert_rules (id) {
        id -> BigInt,
        organization_id -> BigInt,
        org_path -> Text,
        name -> Text,
        is_enabled -> BigInt,
        kinds -> Text,
        levels -> Text,
        models -> Text,
        delivery -> Text,
        steps -> Text,
        created_by -> Text,
        created_at_ms -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    alert_hours (organization_id) {
        organization_id -> BigInt,
        org_path -> Text,
        time_zone -> Text,
        quiet_from_min -> Nullable<BigInt>,
        quiet_until_min -> Nullable<BigInt>,
        quiet_breaks -> Text,
        digest_at_min -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    fleet_passes (name) {
        name -> Text,
        at_ms -> BigInt,
        reached -> BigInt,
    }
}

diesel::table! {
    fleet_baselines (code_group, hour_of_week) {
        code_group -> Text,
        hour_of_week -> BigInt,
        rate_ppb -> BigInt,
        weeks -> BigInt,
    }
}

diesel::table! {
    fleet_rules (rule) {
        rule -> Text,
        judged_at_ms -> BigInt,
        verdict -> Text,
        missing -> Nullable<Text>,
    }
}

diesel::table! {
    merchant_switches (home, merchant_no) {
        home -> Text,
        merchant_no -> Text,
        merchant_name -> Nullable<Text>,
        org_path -> Text,
        from_ms -> BigInt,
        to_ms -> BigInt,
        successful -> BigInt,
        compared -> BigInt,
        switched -> BigInt,
        review -> BigInt,
        newest_id -> BigInt,
        verdict -> Text,
        missing -> Nullable<Text>,
        splits -> Text,
        incident_id -> Nullable<BigInt>,
    }
}

diesel::table! {
    fleet_findings (id) {
        id -> BigInt,
        rule -> Text,
        dedup_key -> Text,
        org_path -> Text,
        subject -> Text,
        verdict -> Text,
        affected -> BigInt,
        evidence -> Text,
        incident_id -> Nullable<BigInt>,
        first_seen_ms -> BigInt,
        last_seen_ms -> BigInt,
        ended_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    terminal_tallies (day, terminal_id) {
        day -> BigInt,
        terminal_id -> BigInt,
        attempts -> BigInt,
    }
}

diesel::table! {
    terminal_suspicions (terminal_id, day) {
        terminal_id -> BigInt,
        day -> BigInt,
    }
}

diesel::table! {
    barred_calls (terminal_id) {
        terminal_id -> BigInt,
        first_ms -> BigInt,
        last_ms -> BigInt,
        calls -> BigInt,
    }
}

diesel::table! {
    terminal_certificates (terminal_id) {
        terminal_id -> BigInt,
        expires_at_ms -> BigInt,
    }
}

diesel::table! {
    sim_cards (iccid) {
        iccid -> Text,
        organization_id -> BigInt,
        org_path -> Text,
        carrier -> Nullable<Text>,
        pool -> Nullable<Text>,
        plan_mb -> Nullable<BigInt>,
        expires_at_ms -> Nullable<BigInt>,
        changed_at_ms -> BigInt,
    }
}

diesel::table! {
    terminal_networks (terminal_id, access, carrier) {
        terminal_id -> BigInt,
        access -> Text,
        carrier -> Text,
        region -> Text,
        attempts_strong -> BigInt,
        failed_strong -> BigInt,
        attempts_weak -> BigInt,
        failed_weak -> BigInt,
        attempts_other -> BigInt,
        failed_other -> BigInt,
        measured -> Text,
        computed_at_ms -> BigInt,
    }
}

diesel::table! {
    store_networks (id) {
        id -> BigInt,
        org_path -> Text,
        merchant_no -> Nullable<Text>,
        merchant_name -> Nullable<Text>,
        store_name -> Nullable<Text>,
        region -> Text,
        terminals -> BigInt,
        attempts -> BigInt,
        failed -> BigInt,
        score -> BigInt,
        body -> Text,
        computed_at_ms -> BigInt,
    }
}

diesel::table! {
    terminal_care (terminal_id) {
        terminal_id -> BigInt,
        org_path -> Text,
        urgency -> BigInt,
        reasons -> Text,
        findings -> Text,
        windows -> Nullable<Text>,
        judged_at_ms -> BigInt,
        inspected_at_ms -> Nullable<BigInt>,
        inspected_by -> Nullable<Text>,
        inspection_order_id -> Nullable<BigInt>,
        inspected_place -> Nullable<Text>,
        inspection_proven -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    maintenance_passes (name) {
        name -> Text,
        cursor -> Text,
        version -> BigInt,
    }
}

diesel::table! {
    maintenance_rules (organization_id) {
        organization_id -> BigInt,
        org_path -> Text,
        body -> Text,
        changed_by -> Text,
        changed_at_ms -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    checklists (organization_id, kind, version) {
        organization_id -> BigInt,
        kind -> Text,
        version -> BigInt,
        org_path -> Text,
        body -> Text,
        changed_by -> Text,
        changed_at_ms -> BigInt,
    }
}

diesel::table! {
    work_orders (id) {
        id -> BigInt,
        org_path -> Text,
        terminal_id -> BigInt,
        kind -> Text,
        dedup_key -> Text,
        reason -> Nullable<Text>,
        incident_id -> Nullable<BigInt>,
        state -> Text,
        urgency -> BigInt,
        due_ms -> BigInt,
        assignee_id -> Nullable<BigInt>,
        assignee_name -> Nullable<Text>,
        opened_by -> Text,
        checklist -> Text,
        answers -> Text,
        done -> Nullable<Text>,
        proof_terminal_id -> Nullable<BigInt>,
        expected_firmware -> Nullable<Text>,
        judged -> BigInt,
        proof -> Nullable<Text>,
        outcome -> Nullable<Text>,
        state_since_ms -> BigInt,
        deadline_ms -> Nullable<BigInt>,
        reminders -> BigInt,
        opened_at_ms -> BigInt,
        closed_at_ms -> Nullable<BigInt>,
        version -> BigInt,
        overdue_told_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    work_order_events (order_id, seq) {
        order_id -> BigInt,
        seq -> BigInt,
        at_ms -> BigInt,
        actor_kind -> Text,
        actor_id -> BigInt,
        actor_name -> Text,
        event -> Text,
        note -> Text,
        evidence -> Nullable<Text>,
    }
}

diesel::table! {
    store_weeks (week, org_path, merchant_no, store_name, model) {
        week -> BigInt,
        org_path -> Text,
        merchant_no -> Text,
        store_name -> Text,
        model -> Text,
        attempts -> BigInt,
        cancelled -> BigInt,
        pin -> BigInt,
        amount -> BigInt,
        not_signed_in -> BigInt,
        reader -> BigInt,
    }
}

diesel::table! {
    counted_attempts (terminal_id) {
        terminal_id -> BigInt,
        day -> BigInt,
        transactions -> BigInt,
    }
}

diesel::joinable!(cohort_cells -> cohorts (cohort_id));
diesel::joinable!(cohort_outcomes -> cohorts (cohort_id));

diesel::allow_tables_to_appear_in_same_query!(
    id_counters,
    settings,
    organizations,
    operators,
    operator_sessions,
    api_keys,
    audit_entries,
    models,
    terminals,
    terminal_tags,
    activation_codes,
    terminal_imports,
    terminal_import_errors,
    terminal_states,
    terminal_manifests,
    condition_samples,
    cohorts,
    cohort_cells,
    cohort_outcomes,
    failures,
    profiles,
    releases,
    release_models,
    rollouts,
    rollout_progress,
    rollout_counts,
    gate_cells,
    gate_counts,
    gate_commits,
    gate_events,
    gate_judgements,
    rollout_stops,
    assignments,
    update_events,
    config_layers,
    terminal_layers,
    effective_configs,
    config_drifts,
    incidents,
    incident_terminals,
    incident_events,
    alerts,
    alert_channels,
    alert_deliveries,
    gate_folds,
    gate_failed,
    gate_sites,
    gate_losses,
    rollout_reasons,
    import_jobs,
    import_errors,
    import_mappings,
    terminal_bindings,
    merchants,
    merchant_numbers,
    feed_channels,
    channel_transactions,
    exposure_slots,
    rule_table_edits,
    rule_table_versions,
    verdicts,
    verdict_counts,
    payments,
    imported_failures,
    lookups,
    evidence_packs,
    explanations,
    pass_times,
    alert_rules,
    alert_hours,
    fleet_passes,
    fleet_baselines,
    fleet_rules,
    fleet_findings,
    merchant_switches,
    terminal_tallies,
    terminal_suspicions,
    barred_calls,
    terminal_certificates,
    sim_cards,
    terminal_networks,
    store_networks,
    terminal_care,
    maintenance_passes,
    maintenance_rules,
    checklists,
    work_orders,
    work_order_events,
    store_weeks,
    counted_attempts,
);
