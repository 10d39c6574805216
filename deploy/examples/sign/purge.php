#!/usr/bin/env php
<?php
// Purges a URL and tags, and waits until no node can serve them any more. PHP 8.1 or later, without extensions.
//
//     export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
//     php purge.php https://www.example.com/index.html product:42 category:shoes
declare(strict_types=1);

class Refused extends RuntimeException {}

function signature(string $timestamp, string $method, string $target, string $body, ?string $key): string
{
    $lines = [$timestamp, $method, $target, hash('sha256', $body)];
    if ($key !== null) {
        $lines[] = $key;
    }
    return hash_hmac('sha256', implode("\n", $lines), getenv('BATOFF_SECRET'));
}

/** One request, signed over the very bytes that are sent. Each try is signed anew; the key makes them one purge. */
function send(string $method, string $target, string $body = '', ?string $key = null): array
{
    $api = rtrim(getenv('BATOFF_API'), '/');
    for ($attempt = 0;; $attempt++) {
        [$micros, $seconds] = explode(' ', microtime());
        $timestamp = sprintf('%d.%06d%03d', $seconds, (int) round((float) $micros * 1e6) % 1000000, random_int(0, 999));
        $headers = [
            'Authorization: Bearer ' . getenv('BATOFF_TOKEN'),
            "X-Batoff-Timestamp: $timestamp",
            'X-Batoff-Signature: sha256=' . signature($timestamp, $method, $target, $body, $key),
        ];
        if ($body !== '') {
            $headers[] = 'Content-Type: application/json';
        }
        if ($key !== null) {
            $headers[] = "Idempotency-Key: $key";
        }
        $options = ['method' => $method, 'header' => $headers, 'content' => $body, 'ignore_errors' => true, 'timeout' => 60];
        $http_response_header = [];
        $text = @file_get_contents($api . $target, false, stream_context_create(['http' => $options]));
        $status = (int) (explode(' ', $http_response_header[0] ?? '')[1] ?? 0);
        if ($text !== false && $status >= 200 && $status < 300) {
            return json_decode($text, true, 512, JSON_THROW_ON_ERROR);
        }
        // Status 0: no connection, or one that broke; whether the request arrived is unknown.
        if ($attempt === 4 || !in_array($status, [0, 429, 503], true)) {
            throw $status === 0 ? new Refused("$api cannot be reached") : refusal($status, (string) $text);
        }
        $pause = preg_grep('/^Retry-After:/i', $http_response_header);
        sleep($pause ? (int) trim(explode(':', end($pause))[1]) : 2 ** $attempt);
    }
}

/** What a refusal says: application/problem+json, RFC 9457. */
function refusal(int $status, string $text): Refused
{
    $problem = json_decode($text, true);
    if (!isset($problem['title'], $problem['code'])) {
        return new Refused("HTTP status $status: " . substr($text, 0, 200));
    }
    $says = "{$problem['title']} ($status {$problem['code']}): " . ($problem['detail'] ?? '');
    foreach ($problem['errors'] ?? [] as $item) {
        $says .= "\n  " . ($item['pointer'] ?? $item['parameter']) . ": {$item['detail']}";
    }
    return new Refused($says);
}

function main(string $url, string ...$tags): void
{
    $purges = '/v1/sites/' . getenv('BATOFF_SITE') . '/purge';
    // One key for one purge. A deploy script takes the id of its deployment, and may run again without harm.
    $key = getenv('BATOFF_KEY') ?: bin2hex(random_bytes(16));
    $task = send('POST', $purges, json_encode(['urls' => [$url], 'tags' => $tags], JSON_THROW_ON_ERROR), $key);
    echo $task['task_id'], "\n"; // from here on it takes effect, whatever happens to this script

    $deadline = time() + 60;
    while ($task['state'] !== 'completed') {
        if (time() > $deadline) {
            throw new Refused("not completed after 60 s: {$task['state']}, " . json_encode($task['nodes']));
        }
        // The answer is held until it is completed, at most 20 s. The query is a part of what is signed.
        $task = send('GET', "$purges/{$task['task_id']}?wait=20");
    }
    echo "completed in {$task['propagation_ms']} ms on {$task['nodes']['total']} nodes\n";
}

try {
    foreach (['API', 'SITE', 'TOKEN', 'SECRET'] as $name) {
        getenv("BATOFF_$name") ?: throw new Refused("set BATOFF_$name");
    }
    $argc > 1 ? main(...array_slice($argv, 1)) : throw new Refused('usage: purge.php URL [TAG…]');
} catch (Refused | JsonException $refused) {
    fwrite(STDERR, $refused->getMessage() . "\n");
    exit(1);
}
