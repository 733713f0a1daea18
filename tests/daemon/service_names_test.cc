#include "daemon/service_names.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "common/fd.h"
#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const std::string kContainer(64, 'a');

uint64_t inode(const std::string& path) {
  struct stat info {};

  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_ino;
}

TEST(ServiceNames, ACgroupPathNamesItsService) {
  EXPECT_EQ(service_from_cgroup_path("/system.slice/nginx.service"), "nginx");
  EXPECT_EQ(service_from_cgroup_path("/system.slice/app@1.service"), "app");
  EXPECT_EQ(service_from_cgroup_path("/system.slice/nginx.service/worker"), "nginx");
  EXPECT_EQ(service_from_cgroup_path("/system.slice/my\\x2dapp.service"), "my-app");
  EXPECT_EQ(service_from_cgroup_path(
                "/user.slice/user-1000.slice/user@1000.service/app.slice/editor.service"),
            "editor");
}

TEST(ServiceNames, AContainerIsNamedByItsShortId) {
  EXPECT_EQ(service_from_cgroup_path("/system.slice/docker-" + kContainer + ".scope"),
            "aaaaaaaaaaaa");
  EXPECT_EQ(service_from_cgroup_path("/kubepods/pod1/" + kContainer), "aaaaaaaaaaaa");
  EXPECT_EQ(service_from_cgroup_path("/kubepods/pod1/" + kContainer + "b"), "");
}

TEST(ServiceNames, OtherCgroupsHaveNoName) {
  for (const char* path : {"", "/", "/init.scope", "/user.slice/user-0.slice/session-1.scope",
                           "/.service", "/a\\xzz.scope"}) {
    EXPECT_EQ(service_from_cgroup_path(path), "") << path;
  }
}

TEST(ServiceNames, ANameIsTextWhateverTheDirectoryIsCalled) {
  EXPECT_EQ(service_from_cgroup_path("/user.slice/bad\xff\nname.service"), "bad??name");
}

TEST(ServiceNames, TheIdOfACgroupIsItsDirectorysInode) {
  const TempDir root;
  fs::create_directories(root.file("system.slice/nginx.service"));
  ServiceNames names(root.path());
  const MonoTime now{};
  EXPECT_EQ(names.service_of(inode(root.file("system.slice/nginx.service")), now), "nginx");
  EXPECT_EQ(names.service_of(inode(root.path()), now), "");
  EXPECT_EQ(names.service_of(12345678901, now), "");
}

TEST(ServiceNames, ACgroupThatAppearsLaterIsFoundAfterASecond) {
  const TempDir root;
  ServiceNames names(root.path());
  MonoTime now{};
  EXPECT_EQ(names.service_of(1, now), "");  // walked now
  fs::create_directories(root.file("redis.service"));
  const auto id = inode(root.file("redis.service"));
  EXPECT_EQ(names.service_of(id, now + 500ms), "");
  EXPECT_EQ(names.service_of(id, now + 1s), "redis");
}

TEST(ServiceNames, AWalkThatEndsEarlyForgetsNothing) {
  const TempDir root;
  fs::create_directories(root.file("system.slice/nginx.service"));
  const auto id = inode(root.file("system.slice/nginx.service"));
  ServiceNames names(root.path());
  const MonoTime now{};
  EXPECT_EQ(names.service_of(id, now), "nginx");
  {
    // One descriptor is left: enough for the root, not for what is below it.
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const Fd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const rlimit tight{static_cast<rlim_t>(lowest.get()) + 2, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    EXPECT_EQ(names.service_of(1, now + 2s), "");  // unknown: walks
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  }
  EXPECT_EQ(names.service_of(id, now + 2s), "nginx");
}

TEST(ServiceNames, WithoutACgroupTreeEverythingIsEmpty) {
  ServiceNames none("");
  EXPECT_EQ(none.service_of(1, MonoTime{}), "");
  ServiceNames missing("/nonexistent");
  EXPECT_EQ(missing.service_of(1, MonoTime{}), "");
}

TEST(ServiceNames, TheMountIsFoundInMountinfo) {
  const TempDir folder;
  std::ofstream(folder.file("mountinfo"))
      << "24 29 0:22 / /sys rw,nosuid - sysfs sysfs rw\n"
      << "30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
  const auto root = find_cgroup2_root(folder.file("mountinfo"));
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(*root, "/sys/fs/cgroup/unified");
}

TEST(ServiceNames, AMountOfASubtreeSaysSo) {
  const TempDir folder;
  std::ofstream(folder.file("mountinfo"))
      << "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
  const auto mount = find_cgroup2_mount(folder.file("mountinfo"));
  ASSERT_TRUE(mount.ok());
  EXPECT_EQ(mount->root, "/docker/abc");
}

TEST(ServiceNames, NoCgroup2IsAnError) {
  const TempDir folder;
  std::ofstream(folder.file("mountinfo"))
      << "garbage\n - cgroup2\n24 29 0:22 / /sys rw - sysfs x\n";
  EXPECT_FALSE(find_cgroup2_root(folder.file("mountinfo")).ok());
  EXPECT_FALSE(find_cgroup2_root("/nonexistent").ok());
}

}  // namespace
}  // namespace weir::daemon
