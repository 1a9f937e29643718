"""The ledger's statements, sent as they stand over psycopg: each books a whole batch, or nothing of it.

Every statement locks windows in the order of their ids, so that two batches never wait for each other in a ring.
"""

BEGIN = "BEGIN"
COMMIT = "COMMIT"
SET_ORGANIZATION = "SELECT set_config('auterity.organization_id', %(organization_id)s::text, true)"

ENSURE_LIFETIME_BUDGET = """
INSERT INTO budget (organization_id, id, name, scope, value, period, time_zone, cap_nusd, enforcement, version)
SELECT %(organization_id)s::uuid, gen_random_uuid(), 'All spending', 'organization', '*', 'lifetime', 'UTC', 0,
    'shadow', 1
WHERE NOT EXISTS (SELECT FROM budget WHERE organization_id = %(organization_id)s AND scope = 'organization'
    AND period = 'lifetime' AND archived_at IS NULL)
ON CONFLICT (organization_id, name) DO NOTHING
"""

READ_BUDGETS = """
SELECT id, name, scope, value, enforcement, cap_nusd, version, archived_at IS NOT NULL
FROM budget WHERE organization_id = %(organization_id)s
"""

CURRENT_WINDOW = """
    CASE b.period WHEN 'lifetime' THEN b.created_at ELSE date_trunc(b.period, now(), b.time_zone) END AS opens_at,
    -- An hour is an hour, also where the clocks go back; a day has 23, 24 or 25 of them.
    CASE b.period WHEN 'lifetime' THEN NULL
        WHEN 'hour' THEN date_trunc('hour', now(), b.time_zone) + interval '1 hour'
        ELSE (date_trunc(b.period, now() AT TIME ZONE b.time_zone)
        + CASE b.period WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || b.period)::interval END)
        AT TIME ZONE b.time_zone END AS closes_at
FROM unnest(%(budget_ids)s::uuid[], %(values)s::text[]) AS w(budget_id, value)
JOIN budget b ON b.organization_id = %(organization_id)s AND b.id = w.budget_id
"""

OPEN_WINDOWS = f"""
INSERT INTO budget_window
    (organization_id, id, budget_id, value, is_hard, cap_nusd, alert_percents, opens_at, closes_at)
SELECT b.organization_id, gen_random_uuid(), b.id, w.value, b.enforcement = 'hard', b.cap_nusd, b.alert_percents,
{CURRENT_WINDOW}
ON CONFLICT (organization_id, budget_id, value, opens_at) DO NOTHING
"""

READ_WINDOWS = f"""
SELECT b.id, b.budget_id, b.value, b.opens_at, b.closes_at
FROM (SELECT b.id AS of_budget, w.value AS of_value, {CURRENT_WINDOW}) AS c
JOIN budget_window b ON b.organization_id = %(organization_id)s AND b.budget_id = c.of_budget
    AND b.value = c.of_value AND b.opens_at = c.opens_at
"""  # noqa: S608 only our own constant is put in

# A first look without locks: a refusal costs neither a lock nor a sync to disk. After it, one guarded update.
HOLD = """
WITH wanted AS (SELECT * FROM unnest(%(window_ids)s::uuid[], %(window_nusd)s::bigint[]) AS w(id, nusd)),
claim AS (SELECT * FROM jsonb_to_recordset(%(claims)s::jsonb) AS c(hold_id uuid, request_id uuid, id uuid,
    key_digest bytea, request_digest bytea)),
look AS MATERIALIZED (
    SELECT b.id, b.is_hard, b.cap_nusd - b.settled_nusd - b.held_nusd AS room_nusd FROM budget_window b
    WHERE b.organization_id = %(organization_id)s AND b.id = ANY (%(window_ids)s::uuid[])
        AND (b.closes_at IS NULL OR b.closes_at > now())),
readiness AS MATERIALIZED (
    SELECT (SELECT count(*) FROM look) = cardinality(%(window_ids)s::uuid[]) AND (
            SELECT coalesce(sum(version), 0) FROM budget WHERE organization_id = %(organization_id)s
        ) = %(budgets_version)s AS is_current,
        (SELECT coalesce(bool_and(NOT is_hard OR nusd <= room_nusd), false) FROM look JOIN wanted USING (id)) AS fits,
        (SELECT jsonb_object_agg(k.id, coalesce(k.frozen_by_request_id::text, 'revoked')) FROM api_key k
            WHERE k.organization_id = %(organization_id)s AND k.id = ANY (%(key_ids)s::uuid[])
            AND (k.revoked_at IS NOT NULL OR k.expires_at <= now() OR k.frozen_by_request_id IS NOT NULL)) AS barred,
        (SELECT array_agg(c.hold_id) FROM claim c JOIN idempotency i ON i.organization_id = %(organization_id)s
            AND i.key_digest = c.key_digest AND i.request_id <> c.request_id AND i.expires_at > now()) AS taken),
locked AS MATERIALIZED (
    SELECT b.id, b.is_hard, b.cap_nusd - b.settled_nusd - b.held_nusd AS room_nusd FROM budget_window b
    WHERE b.organization_id = %(organization_id)s AND b.id = ANY (%(window_ids)s::uuid[])
        AND (SELECT is_current AND fits AND barred IS NULL AND taken IS NULL FROM readiness)
    ORDER BY b.id FOR UPDATE),
verdict AS MATERIALIZED (
    SELECT count(*) = cardinality(%(window_ids)s::uuid[])
        AND coalesce(bool_and(NOT is_hard OR nusd <= room_nusd), false) AS ok
    FROM locked JOIN wanted USING (id)),
raised AS (
    UPDATE budget_window b SET held_nusd = b.held_nusd + w.nusd FROM wanted w, verdict
    WHERE b.organization_id = %(organization_id)s AND b.id = w.id AND verdict.ok
        AND (NOT b.is_hard OR b.settled_nusd + b.held_nusd + w.nusd <= b.cap_nusd)
    RETURNING b.id, b.cap_nusd - b.settled_nusd - b.held_nusd AS room_nusd),
made AS (
    INSERT INTO hold (organization_id, id, request_id, attempt, dealership_id, key_id, user_id, purpose, tags,
        deployment_id, price_key, price_digest, window_ids, amount_nusd, state, dispatched_at, expires_at)
    SELECT %(organization_id)s, h.id, h.request_id, h.attempt, h.dealership_id, h.key_id, h.user_id, h.purpose,
        coalesce(h.tags, '{}'), h.deployment_id, h.price_key, h.price_digest, h.window_ids, h.amount_nusd, 'held',
        now(), now() + make_interval(secs => h.expires_in_s)
    FROM jsonb_to_recordset(%(holds)s::jsonb) AS h(id uuid, request_id uuid, attempt bigint, dealership_id uuid,
        key_id uuid, user_id uuid, purpose text, tags text[], deployment_id text, price_key text, price_digest text,
        window_ids uuid[], amount_nusd bigint, expires_in_s double precision), verdict
    WHERE verdict.ok
    RETURNING 1),
claimed AS (
    INSERT INTO idempotency (organization_id, key_digest, id, request_digest, request_id, hold_id, expires_at)
    SELECT %(organization_id)s, c.key_digest, c.id, c.request_digest, c.request_id, c.hold_id, now() + interval '24 h'
    FROM claim c, verdict WHERE verdict.ok
    ON CONFLICT (organization_id, key_digest) DO UPDATE SET id = excluded.id, request_digest = excluded.request_digest,
        request_id = excluded.request_id, hold_id = excluded.hold_id, answer = NULL, created_at = now(),
        expires_at = excluded.expires_at
    WHERE idempotency.request_id = excluded.request_id OR idempotency.expires_at <= now()
    RETURNING 1)
SELECT verdict.ok, readiness.is_current, coalesce(readiness.barred, '{}'), coalesce(readiness.taken, '{}'),
    -- The windows are locked, so only a key that another request claimed this moment can make a difference: then the
    -- division undoes the whole batch.
    CASE WHEN verdict.ok THEN 1 / ((SELECT count(*) FROM raised) = cardinality(%(window_ids)s::uuid[])
        AND (SELECT count(*) FROM made) = jsonb_array_length(%(holds)s::jsonb)
        AND (SELECT count(*) FROM claimed) = (SELECT count(*) FROM claim))::int END,
    coalesce((SELECT jsonb_object_agg(id, room_nusd) FROM raised), (SELECT jsonb_object_agg(id, room_nusd) FROM locked),
        (SELECT jsonb_object_agg(id, room_nusd) FROM look), '{}')
FROM verdict, readiness
"""

# A hold grows in the windows that it stands in, or not at all. It is locked first, as when it closes.
EXTEND = """
WITH grown AS MATERIALIZED (
    SELECT h.id, h.window_ids FROM hold h
    WHERE h.organization_id = %(organization_id)s AND h.id = %(hold_id)s AND h.state = 'held' FOR UPDATE),
locked AS MATERIALIZED (
    SELECT b.id, b.is_hard, b.cap_nusd - b.settled_nusd - b.held_nusd AS room_nusd FROM budget_window b
    WHERE b.organization_id = %(organization_id)s AND b.id = ANY (ARRAY(SELECT unnest(window_ids) FROM grown))
    ORDER BY b.id FOR UPDATE),
verdict AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM grown) AND coalesce(bool_and(NOT is_hard OR %(more_nusd)s <= room_nusd), true) AS ok
    FROM locked),
raised AS (
    UPDATE budget_window b SET held_nusd = b.held_nusd + %(more_nusd)s FROM locked l, verdict
    WHERE b.organization_id = %(organization_id)s AND b.id = l.id AND verdict.ok
        AND (NOT b.is_hard OR b.settled_nusd + b.held_nusd + %(more_nusd)s <= b.cap_nusd)
    RETURNING b.id),
lengthened AS (
    UPDATE hold h SET amount_nusd = h.amount_nusd + %(more_nusd)s FROM grown g, verdict
    WHERE h.organization_id = %(organization_id)s AND h.id = g.id AND verdict.ok
    RETURNING h.id)
SELECT verdict.ok, CASE WHEN verdict.ok THEN 1 / ((SELECT count(*) FROM raised) = (SELECT count(*) FROM locked)
    AND (SELECT count(*) FROM lengthened) = 1)::int END FROM verdict
"""

# A shadow call freezes no key: whoever asked has no part in it, and its own allowance is used up.
# A hold closes once. A settlement that comes after the reaper corrects what the reaper booked, once.
CLOSE = """
WITH closing AS (
    SELECT * FROM jsonb_to_recordset(%(closings)s::jsonb) AS c(id uuid, state text, cost_nusd bigint,
        outcome text, task text, prompt_tokens bigint, cache_read_tokens bigint, cache_write_5m_tokens bigint,
        cache_write_1h_tokens bigint, completion_tokens bigint, latency_ms bigint, first_token_ms bigint,
        is_streamed boolean, provider_request_id text, policy_digest text, rule text)),
locked AS MATERIALIZED (
    SELECT h.* FROM hold h WHERE h.organization_id = %(organization_id)s AND h.id = ANY (%(hold_ids)s::uuid[])
    ORDER BY h.id FOR UPDATE),
booking AS MATERIALIZED (
    SELECT l.*, c.state AS closed_as, l.state = 'held' AS is_first, coalesce(l.cost_nusd, 0) AS booked_nusd,
        CASE c.state WHEN 'settled' THEN c.cost_nusd WHEN 'unknown' THEN l.amount_nusd ELSE 0 END AS due_nusd
    FROM locked l JOIN closing c USING (id)
    WHERE l.state = 'held'
        OR (l.closed_by = 'reaper' AND l.adjusted_at IS NULL AND c.state <> 'unknown' AND %(closed_by)s = 'caller')),
closed AS (
    UPDATE hold h SET state = CASE WHEN b.is_first THEN b.closed_as ELSE h.state END, cost_nusd = b.due_nusd,
        closed_at = coalesce(h.closed_at, now()), closed_by = coalesce(h.closed_by, %(closed_by)s),
        adjusted_at = CASE WHEN NOT b.is_first THEN now() END
    FROM booking b WHERE h.organization_id = %(organization_id)s AND h.id = b.id
    RETURNING h.id),
change AS MATERIALIZED (
    SELECT w.id, sum(CASE WHEN b.is_first THEN b.amount_nusd ELSE 0 END)::bigint AS released_nusd,
        sum(b.due_nusd - b.booked_nusd)::bigint AS spent_nusd
    FROM booking b, unnest(b.window_ids) AS w(id) GROUP BY w.id),
locked_window AS MATERIALIZED (
    SELECT b.id, b.alerted_percent FROM budget_window b
    WHERE b.organization_id = %(organization_id)s AND b.id = ANY (ARRAY(SELECT id FROM change))
    ORDER BY b.id FOR UPDATE),
moved AS (
    UPDATE budget_window b SET held_nusd = b.held_nusd - c.released_nusd, settled_nusd = b.settled_nusd + c.spent_nusd,
        overage_nusd = CASE WHEN b.is_hard THEN greatest(b.overage_nusd, b.settled_nusd + c.spent_nusd + b.held_nusd
            - c.released_nusd - b.cap_nusd) ELSE b.overage_nusd END,
        alerted_percent = greatest(l.alerted_percent, (SELECT max(p) FROM unnest(b.alert_percents) AS p
            WHERE (b.settled_nusd + c.spent_nusd) * 100 >= p * b.cap_nusd))
    FROM change c JOIN locked_window l USING (id) WHERE b.organization_id = %(organization_id)s AND b.id = c.id
    RETURNING b.id, b.settled_nusd, b.cap_nusd, b.alert_percents, b.alerted_percent, l.alerted_percent AS said_percent),
alerted AS (
    INSERT INTO budget_alert (organization_id, window_id, percent, settled_nusd, cap_nusd)
    SELECT %(organization_id)s, m.id, p, m.settled_nusd, m.cap_nusd FROM moved m, unnest(m.alert_percents) AS p
    WHERE p > m.said_percent AND p <= m.alerted_percent
    ON CONFLICT DO NOTHING
    RETURNING 1),
booked AS (
    INSERT INTO entry (organization_id, hold_id, sequence, account, amount_nusd, kind, price_digest)
    SELECT b.organization_id, b.id, CASE WHEN b.is_first THEN 1 ELSE 2 END, side.account, side.amount_nusd,
        CASE WHEN NOT b.is_first THEN 'adjustment' WHEN b.closed_as = 'unknown' THEN 'unknown' ELSE 'settlement' END,
        b.price_digest
    FROM booking b, LATERAL (VALUES
        ('spend', CASE b.closed_as WHEN 'unknown' THEN 0 ELSE b.due_nusd END),
        ('suspense', CASE WHEN b.closed_as = 'unknown' THEN b.due_nusd ELSE -b.booked_nusd END),
        ('payable:' || b.price_key, b.booked_nusd - b.due_nusd)) AS side(account, amount_nusd)
    WHERE side.amount_nusd <> 0
    RETURNING 1),
used AS (
    INSERT INTO usage (organization_id, day, id, request_id, attempt, dealership_id, key_id, purpose, task,
        deployment_id, price_key, price_digest, prompt_tokens, cache_read_tokens, cache_write_5m_tokens,
        cache_write_1h_tokens, completion_tokens, cost_nusd, outcome, latency_ms, first_token_ms, is_streamed,
        provider_request_id, policy_digest, rule)
    SELECT b.organization_id, (b.created_at AT TIME ZONE 'UTC')::date, b.id, b.request_id, b.attempt, b.dealership_id,
        b.key_id, b.purpose, c.task, b.deployment_id, b.price_key, b.price_digest, c.prompt_tokens,
        c.cache_read_tokens, c.cache_write_5m_tokens, c.cache_write_1h_tokens, c.completion_tokens, b.due_nusd,
        c.outcome, c.latency_ms, c.first_token_ms, c.is_streamed, c.provider_request_id, c.policy_digest, c.rule
    FROM booking b JOIN closing c USING (id) WHERE c.outcome IS NOT NULL
    ON CONFLICT (organization_id, day, id) DO UPDATE SET task = excluded.task,
        prompt_tokens = excluded.prompt_tokens, cache_read_tokens = excluded.cache_read_tokens,
        cache_write_5m_tokens = excluded.cache_write_5m_tokens, cache_write_1h_tokens = excluded.cache_write_1h_tokens,
        completion_tokens = excluded.completion_tokens, cost_nusd = excluded.cost_nusd, outcome = excluded.outcome,
        latency_ms = excluded.latency_ms, first_token_ms = excluded.first_token_ms,
        is_streamed = excluded.is_streamed, provider_request_id = excluded.provider_request_id,
        policy_digest = excluded.policy_digest, rule = excluded.rule
    RETURNING 1),
frozen AS (
    UPDATE api_key k SET frozen_by_request_id = b.request_id FROM booking b
    WHERE k.organization_id = %(organization_id)s AND k.id = b.key_id AND b.due_nusd > b.amount_nusd
        AND k.frozen_by_request_id IS NULL AND b.purpose <> 'shadow'
    RETURNING k.id)
SELECT (SELECT count(*) FROM closed), ARRAY(SELECT request_id FROM booking WHERE due_nusd > amount_nusd)
"""

ORGANIZATIONS_WITH_EXPIRED_HOLDS = "SELECT * FROM organizations_with_expired_holds()"

EXPIRED_HOLDS = """
SELECT id, dispatched_at IS NOT NULL FROM hold
WHERE organization_id = %(organization_id)s AND state = 'held' AND expires_at < now() ORDER BY expires_at LIMIT 200
"""

# What a provider's bill says of closed holds: whatever a hold stands with becomes spend, and leaves suspense.
CORRECT = """
WITH correction AS (SELECT * FROM jsonb_to_recordset(%(corrections)s::jsonb) AS c(id uuid, due_nusd bigint)),
locked AS MATERIALIZED (
    SELECT h.* FROM hold h WHERE h.organization_id = %(organization_id)s AND h.id = ANY (%(hold_ids)s::uuid[])
        AND h.state <> 'held' ORDER BY h.id FOR UPDATE),
booking AS MATERIALIZED (
    SELECT l.*, c.due_nusd, e.spend_nusd, e.suspense_nusd, e.sequence + 1 AS sequence
    FROM locked l JOIN correction c USING (id), LATERAL (
        SELECT coalesce(sum(amount_nusd) FILTER (WHERE account = 'spend'), 0)::bigint AS spend_nusd,
            coalesce(sum(amount_nusd) FILTER (WHERE account = 'suspense'), 0)::bigint AS suspense_nusd,
            coalesce(max(sequence), 0) AS sequence
        FROM entry WHERE organization_id = l.organization_id AND hold_id = l.id) AS e),
closed AS (
    UPDATE hold h SET cost_nusd = b.due_nusd, adjusted_at = now() FROM booking b
    WHERE h.organization_id = %(organization_id)s AND h.id = b.id),
change AS MATERIALIZED (
    SELECT w.id, sum(b.due_nusd - b.spend_nusd - b.suspense_nusd)::bigint AS spent_nusd
    FROM booking b, unnest(b.window_ids) AS w(id) GROUP BY w.id),
locked_window AS MATERIALIZED (
    SELECT b.id FROM budget_window b
    WHERE b.organization_id = %(organization_id)s AND b.id = ANY (ARRAY(SELECT id FROM change))
    ORDER BY b.id FOR UPDATE),
moved AS (
    UPDATE budget_window b SET settled_nusd = b.settled_nusd + c.spent_nusd, overage_nusd = CASE WHEN b.is_hard
        THEN greatest(b.overage_nusd, b.settled_nusd + c.spent_nusd + b.held_nusd - b.cap_nusd) ELSE b.overage_nusd END
    FROM change c JOIN locked_window USING (id) WHERE b.organization_id = %(organization_id)s AND b.id = c.id),
booked AS (
    INSERT INTO entry (organization_id, hold_id, sequence, account, amount_nusd, kind, price_digest)
    SELECT b.organization_id, b.id, b.sequence, side.account, side.amount_nusd, 'adjustment', b.price_digest
    FROM booking b, LATERAL (VALUES ('spend', b.due_nusd - b.spend_nusd), ('suspense', -b.suspense_nusd),
        ('payable:' || b.price_key, b.spend_nusd + b.suspense_nusd - b.due_nusd)) AS side(account, amount_nusd)
    WHERE side.amount_nusd <> 0),
used AS (
    UPDATE usage u SET cost_nusd = b.due_nusd FROM booking b
    WHERE u.organization_id = %(organization_id)s AND u.id = b.id
        AND u.day = (b.created_at AT TIME ZONE 'UTC')::date),
frozen AS (
    UPDATE api_key k SET frozen_by_request_id = b.request_id FROM booking b
    WHERE k.organization_id = %(organization_id)s AND k.id = b.key_id AND b.due_nusd > b.amount_nusd
        AND k.frozen_by_request_id IS NULL)
SELECT coalesce(sum(due_nusd - spend_nusd - suspense_nusd), 0)::bigint FROM booking
"""
