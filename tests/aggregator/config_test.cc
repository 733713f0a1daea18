#include "aggregator/config.h"

#include <gtest/gtest.h>

namespace weir::aggregator {
namespace {

constexpr const char* kRegion = R"(
tier: region
name: eu-1
data_dir: /tmp/x
upstream: tcp://127.0.0.1:7501
)";

TEST(AggregatorConfig, SmallestFileGetsTheDefaults) {
  const auto c = parse_config("r.yaml", kRegion);
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->tier.in_s, 60U);
  EXPECT_EQ(c->tier.out_s, 300U);
  EXPECT_EQ(c->tier.keep_in_s, 48 * 3600);
  EXPECT_EQ(c->tier.keep_out_s, 30 * 86400);
  EXPECT_EQ(c->tier.flush_every, std::chrono::seconds(10));
  EXPECT_FALSE(c->tier.last());
  EXPECT_EQ(c->limits.series_per_metric, 20'000U);
  EXPECT_EQ(c->limits.values_per_label, 2'000U);
}

TEST(AggregatorConfig, TierWithoutUpstreamIsTheLastAndGlobalKeepsHours) {
  const auto c = parse_config("g.yaml", "tier: global\nname: world\ndata_dir: /tmp/x\n");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_TRUE(c->tier.last());
  EXPECT_EQ(c->tier.in_s, 300U);
  EXPECT_EQ(c->tier.out_s, 3600U);
  EXPECT_EQ(c->limits.series_per_metric, 100'000U);
  EXPECT_EQ(c->limits.values_per_label, 20'000U);
}

TEST(AggregatorConfig, EveryKeyIsRead) {
  const auto c = parse_config("r.yaml", std::string(kRegion) + R"(
listen: tcp://127.0.0.1:1
http: 127.0.0.1:2
windows: {in: 1s, out: 5s}
drop_labels: [pod, host]
add_labels: {region: eu-1}
close_after: 500ms
flush_every: 500ms
retention: {in: 1h, out: 2d}
limits: {labels: 4, label_name: 32, label_value: 64, values_per_label: 7, series_per_metric: 5,
  catalog_rows: 99, dry_run: true, outbox: 1MiB, inbox: 2MiB, lives: 17}
metrics:
  - {name: "http_*", series: 9, dry_run: false}
log: {level: warn}
)");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->limits.rules,
            (MetricRules{{.name = "http_*", .series = size_t{9}, .dry_run = false}}));
  EXPECT_EQ(c->listen, "tcp://127.0.0.1:1");
  EXPECT_EQ(c->http, "127.0.0.1:2");
  EXPECT_EQ(c->tier.in_s, 1U);
  EXPECT_EQ(c->tier.out_s, 5U);
  EXPECT_EQ(c->tier.drop_labels, (std::vector<std::string>{"host", "pod"}));
  EXPECT_EQ(c->tier.add_labels, (Labels{{"region", "eu-1"}}));
  EXPECT_EQ(c->tier.close_after_s, 1);
  EXPECT_EQ(c->tier.flush_every, std::chrono::milliseconds(500));
  EXPECT_EQ(c->tier.keep_out_s, 2 * 86400);
  EXPECT_EQ(c->lives, 17U);
  EXPECT_EQ(c->limits.labels.count, 4U);
  EXPECT_EQ(c->limits.labels.name, 32U);
  EXPECT_EQ(c->limits.labels.value, 64U);
  EXPECT_EQ(c->limits.values_per_label, 7U);
  EXPECT_EQ(c->limits.series_per_metric, 5U);
  EXPECT_EQ(c->catalog_rows, 99U);
  EXPECT_TRUE(c->limits.dry_run);
  EXPECT_EQ(c->outbox_bytes, uint64_t{1} << 20);
  EXPECT_EQ(c->inbox_bytes, uint64_t{2} << 20);
  EXPECT_EQ(c->log_level, log::Level::kWarn);
}

struct Mistake {
  const char* name;
  const char* extra;
  const char* expected;  // part of the message, with its place
};

class AggregatorConfigMistake : public testing::TestWithParam<Mistake> {};

TEST_P(AggregatorConfigMistake, IsToldWithItsPlace) {
  const auto c = parse_config("r.yaml", std::string(kRegion) + GetParam().extra);
  ASSERT_FALSE(c.ok());
  EXPECT_NE(c.error().message.find(GetParam().expected), std::string::npos) << c.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    All, AggregatorConfigMistake,
    testing::Values(Mistake{"widths", "windows: {in: 60s, out: 90s}\n",
                            "r.yaml:6:25: out: 90s is not a multiple"},
                    Mistake{"retention", "retention: {in: 5m}\n",
                            "r.yaml:6:17: in: 300s is less than twice"},
                    Mistake{"order", "retention: {in: 3d, out: 2d}\n",
                            "r.yaml:6:26: out: 172800s is less than"},
                    Mistake{"listen", "listen: tcp://0.0.0.0:7401\n", "r.yaml:6:9: listen: "},
                    Mistake{"scale", "metrics:\n  - {name: a, scale: 5}\n",
                            "a: 'scale' is for edges to choose"},
                    Mistake{"unknown", "retension: {in: 5m}\n", "did you mean 'retention'"},
                    Mistake{"both", "drop_labels: [region]\nadd_labels: {region: eu}\n",
                            "drop_labels: 'region' is also in add_labels"}),
    [](const auto& param) { return param.param.name; });

TEST(AggregatorConfig, EndpointOffThisHostIsRefusedUpwardsToo) {
  const auto c = parse_config(
      "r.yaml", "tier: region\nname: a\ndata_dir: /tmp/x\nupstream: tcp://192.0.2.1:7501\n");
  ASSERT_FALSE(c.ok());
  EXPECT_NE(c.error().message.find("r.yaml:4:11: upstream: "), std::string::npos)
      << c.error().message;
}

TEST(AggregatorConfig, WithKeysEveryEndpointMayBeNamed) {
  const std::string key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
  const auto c =
      parse_config("r.yaml",
                   "tier: region\nname: a\ndata_dir: /tmp/x\nlisten: tcp://0.0.0.0:7401\n"
                   "keys: {dir: /etc/weir/keys}\n"
                   "upstream: {endpoint: 'tcp://192.0.2.1:7501', server_keys: ['" +
                       key + "']}\n");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->tier.upstream, "tcp://192.0.2.1:7501");
  EXPECT_EQ(c->upstream_keys, std::vector{key});
  EXPECT_EQ(c->keys.allow, "/etc/weir/allow.d");
  const auto two = parse_config("r.yaml",
                                "tier: region\nname: a\ndata_dir: /tmp/x\n"
                                "upstream: ['tcp://127.0.0.1:1', 'tcp://127.0.0.1:2']\n");
  ASSERT_FALSE(two.ok());
  EXPECT_NE(two.error().message.find("one next tier"), std::string::npos) << two.error().message;
}

TEST(AggregatorConfig, ExampleFilesAreGood) {
  for (const char* name : {"deploy/weir-region.yaml", "deploy/weir-global.yaml"}) {
    const auto c = read_config(name);
    EXPECT_TRUE(c.ok()) << c.error().message;
  }
}

}  // namespace
}  // namespace weir::aggregator
